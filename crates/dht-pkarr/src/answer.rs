//! What a packet says about a name, as a DNS server has to say it.

use alloc::vec::Vec;

use crate::name::Name;
use crate::packet::SignedPacket;
use crate::record::{CLASS_IN, Rdata, Record, kind};

/// What a packet says about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// These records of the type asked for, which stand under the name or under the wildcard that
    /// stands in for it.
    Records(Vec<Record>),
    /// Nothing of that type, but another name for this one.
    Alias(Record, Name),
    /// Nothing of that type, although the name, or one below it, has records.
    NoData,
    /// There is no such name.
    NoName,
}

impl SignedPacket {
    /// What the packet says about a name for those who ask for records of one type, or of all
    /// ([`kind::ANY`]). All records of the answer have the name that was asked for.
    ///
    /// ```
    /// use dht_pkarr::dns::Answer;
    /// use dht_pkarr::record::kind;
    /// use dht_pkarr::{Keypair, Name, SignedPacket, Timestamp};
    ///
    /// let keypair = Keypair::from_secret(&[7; 32]);
    /// let packet = SignedPacket::builder()
    ///     .txt("*.wild", "anything", 60)
    ///     .cname("www", "example.com".parse()?, 60)
    ///     .sign(&keypair, Timestamp::from_secs(1))?;
    /// let answer = |name: &str, kind| {
    ///     Ok::<_, dht_pkarr::NameError>(packet.answer(&Name::within(&keypair.public_key(), name)?, kind))
    /// };
    /// assert!(matches!(answer("a.wild", kind::TXT)?, Answer::Records(records) if records.len() == 1));
    /// assert!(matches!(answer("www", kind::A)?, Answer::Alias(_, to) if to == "example.com".parse()?));
    /// assert_eq!(answer("wild", kind::A)?, Answer::NoData);
    /// assert_eq!(answer("b", kind::A)?, Answer::NoName);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn answer(&self, name: &Name, kind: u16) -> Answer {
        let records = self.records();
        let apex = Name::of_key(&self.public_key());
        let below = name.is_at_or_below(&apex);
        let owner = match owner(&records, name) {
            Some(owner) if below => owner,
            // A packet without records still says that its key exists.
            Some(_) | None if name.is(&apex) => return Answer::NoData,
            Some(_) | None => return Answer::NoName,
        };
        if owner != *name && !exists(&records, &owner) {
            return if name.is(&apex) { Answer::NoData } else { Answer::NoName };
        }
        let mut here: Vec<Record> = records
            .into_iter()
            .filter(|record| record.class == CLASS_IN && record.name.is(&owner))
            .map(|record| Record { name: name.clone(), ..record })
            .collect();
        let alias = here.iter().find_map(|record| {
            if let Rdata::Cname(to) = &record.data {
                Some((record.clone(), to.clone()))
            } else {
                None
            }
        });
        if kind != kind::ANY {
            here.retain(|record| record.data.kind() == kind);
        }
        match alias {
            _ if !here.is_empty() => Answer::Records(here),
            Some((record, to)) => Answer::Alias(record, to),
            None => Answer::NoData,
        }
    }
}

/// Whether anything stands under a name or below.
fn exists(records: &[Record], name: &Name) -> bool {
    records.iter().any(|record| record.name.is_at_or_below(name))
}

/// Whose records answer for a name: its own, or, if nothing stands there or below, those of the
/// wildcard below its nearest parent where something does (RFC 4592).
pub(crate) fn owner(records: &[Record], name: &Name) -> Option<Name> {
    let mut nearest = name.clone();
    while !exists(records, &nearest) {
        nearest = nearest.parent()?;
    }
    Some(if nearest == *name { nearest } else { nearest.wildcard() })
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::{Keypair, Timestamp};

    fn packet() -> SignedPacket {
        SignedPacket::builder()
            .a("@", [192, 0, 2, 1].into(), 60)
            .txt("a.b", "deep", 60)
            .a("*.w", [192, 0, 2, 2].into(), 60)
            .cname("*.alias", "example.com".parse().unwrap(), 60)
            .txt("both", "data", 60)
            .cname("both", "example.com".parse().unwrap(), 60)
            .sign(&Keypair::from_secret(&[1; 32]), Timestamp::from_secs(1))
            .unwrap()
    }

    fn answer(name: &str, kind: u16) -> Answer {
        let packet = packet();
        packet.answer(&Name::within(&packet.public_key(), name).unwrap(), kind)
    }

    #[test]
    fn names_have_records_or_exist_or_do_not() {
        assert!(matches!(answer("@", kind::A), Answer::Records(found) if found.len() == 1));
        assert_eq!(answer("@", kind::AAAA), Answer::NoData);
        assert_eq!(answer("b", kind::TXT), Answer::NoData, "there is something below");
        assert_eq!(answer("c", kind::TXT), Answer::NoName);
        assert_eq!(answer("x.a.b", kind::TXT), Answer::NoName);
        assert!(matches!(answer("A.B", kind::TXT), Answer::Records(found) if found.len() == 1));
        assert!(matches!(answer("both", kind::ANY), Answer::Records(found) if found.len() == 2));
    }

    #[test]
    fn wildcards_answer_under_the_name_asked_for() {
        for name in ["x.w", "x.y.w"] {
            let Answer::Records(found) = answer(name, kind::A) else { panic!("{name}") };
            assert!(found[0].name.to_string().starts_with(name));
        }
        assert_eq!(answer("x.w", kind::TXT), Answer::NoData);
        assert_eq!(answer("w", kind::A), Answer::NoData);
    }

    #[test]
    fn an_alias_answers_for_all_types_that_are_not_there() {
        assert!(matches!(answer("x.alias", kind::A), Answer::Alias(record, to)
            if to.to_string() == "example.com" && record.name.to_string().starts_with("x.alias")));
        assert!(matches!(answer("x.alias", kind::CNAME), Answer::Records(_)));
        assert!(matches!(answer("both", kind::TXT), Answer::Records(_)));
        assert!(matches!(answer("both", kind::A), Answer::Alias(..)));
    }

    #[test]
    fn a_key_exists_even_without_records_and_foreign_names_do_not() {
        let keypair = Keypair::from_secret(&[2; 32]);
        let empty = SignedPacket::builder().sign(&keypair, Timestamp::from_secs(1)).unwrap();
        let apex = Name::of_key(&keypair.public_key());
        assert_eq!(empty.answer(&apex, kind::A), Answer::NoData);
        let below = Name::within(&keypair.public_key(), "x").unwrap();
        assert_eq!(empty.answer(&below, kind::A), Answer::NoName);
        let packet = packet();
        for foreign in [apex, "example.com".parse().unwrap(), Name::root()] {
            assert_eq!(packet.answer(&foreign, kind::A), Answer::NoName);
        }
    }
}
