//! Every fuzz target on its corpus and on mutations of it, without a fuzzer.

use std::path::Path;
use std::sync::LazyLock;

use dht_fuzz::{Body, TARGETS, corpus};
use proptest::prelude::*;

#[test]
fn every_target_survives_its_corpus() {
    for (name, body) in TARGETS {
        let inputs = corpus(name).unwrap();
        assert!(!inputs.is_empty(), "the corpus of {name} is empty");
        for (path, data) in inputs {
            eprintln!("{name} {}", path.display());
            body(&data);
        }
    }
}

#[test]
fn every_target_has_a_binary() {
    for (name, _) in TARGETS {
        let file = format!("fuzz_targets/{name}.rs");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file).is_file(), "{file}");
    }
    let binaries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets"));
    assert_eq!(binaries.unwrap().count(), TARGETS.len());
}

/// Changes one place of an input: replaces `old` bytes there with `new`.
#[derive(Clone, Debug)]
struct Edit {
    at: prop::sample::Index,
    old: usize,
    new: Vec<u8>,
}

fn edit() -> impl Strategy<Value = Edit> {
    let piece = prop::sample::select(vec![
        "",
        "d",
        "l",
        "e",
        "le",
        "de",
        "i1e",
        "i0e",
        "i-1e",
        "0:",
        "1:a",
        "2:id",
        "20:",
        "1:v",
        "6:values",
        "l6:axje.ue",
        "1:y1:r",
        "1:rd",
        "1:ad",
        "2:roi1e",
        "4:want",
    ]);
    let new = prop_oneof![
        piece.prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..3),
    ];
    (any::<prop::sample::Index>(), 0..4_usize, new).prop_map(|(at, old, new)| Edit { at, old, new })
}

/// The bodies of some targets, each with its corpus.
type Inputs = Vec<(Body, Vec<Vec<u8>>)>;

fn inputs(chosen: impl Fn(&str) -> bool) -> Inputs {
    let inputs =
        |name| corpus(name).into_iter().flatten().map(|(_, data)| data).collect::<Vec<_>>();
    let targets = TARGETS.iter().filter(|(name, _)| chosen(name));
    targets.map(|(name, body)| (*body, inputs(name))).collect()
}

static QUICK: LazyLock<Inputs> =
    LazyLock::new(|| inputs(|name| name != WORLD && !MODELS.contains(&name)));
static SLOW: LazyLock<Inputs> = LazyLock::new(|| inputs(|name| MODELS.contains(&name)));

/// The one target whose body takes a hundred times longer than the others.
const WORLD: &str = "world";
/// Those that take ten times longer, because a model looks at every step.
const MODELS: [&str; 3] = ["lookup", "store", "table"];

/// The change of an input that `edits` describe.
fn apply(edits: &[Edit], data: &mut Vec<u8>) {
    for Edit { at, old, new } in edits {
        let at = at.index(data.len() + 1);
        let end = data.len().min(at + old);
        data.splice(at..end, new.iter().copied());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn worlds_survive_mutations(
        seed in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 1..5),
    ) {
        let mut data = seed.get(&corpus(WORLD).unwrap()).1.clone();
        apply(&edits, &mut data);
        dht_fuzz::world(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_target_survives_mutations(
        seed in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 1..5),
    ) {
        run(&QUICK, seed, &edits);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn models_survive_mutations(
        seed in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 1..5),
    ) {
        run(&SLOW, seed, &edits);
    }
}

/// Feeds each target a change of one of its inputs.
fn run(targets: &Inputs, seed: prop::sample::Index, edits: &[Edit]) {
    for (body, inputs) in targets {
        let mut data = seed.get(inputs).clone();
        apply(edits, &mut data);
        body(&data);
    }
}
