//! One test for each quirk of other implementations that a message may show.

use super::*;

/// The message in every order of its four or so top-level parts.
fn top(parts: &[&str]) -> String {
    format!("d{}e", parts.concat())
}

#[test]
fn tolerates_unsorted_dict_keys() {
    let args = format!("1:ad6:target20:{HASH}2:id20:{ID}e");
    let message = top(&["1:y1:q", "1:t2:aa", "1:q9:find_node", &args]);
    let decoded = decode(message.as_bytes()).unwrap();
    assert!(decoded.unsorted);
    assert!(matches!(decode_query(&message).method, Method::FindNode { .. }));
    for inside in [
        format!("1:ad6:target20:{HASH}2:id20:{ID}e"),
        format!("1:ad2:id20:{ID}6:target20:{HASH}1:xd1:bi1e1:ai1eee"),
    ] {
        let message = top(&[&inside, "1:q9:find_node", "1:t2:aa", "1:y1:q"]);
        assert!(decode(message.as_bytes()).unwrap().unsorted, "{message}");
    }
    assert!(!decode(query("ping", "").as_bytes()).unwrap().unsorted);
}

#[test]
fn takes_the_first_of_duplicate_keys() {
    let message = query("find_node", &format!("6:target20:{HASH}6:target20:{ID}"));
    let target = Target::from_bytes(HASH.as_bytes().try_into().unwrap());
    assert!(decode(message.as_bytes()).unwrap().unsorted);
    assert_eq!(decode_query(&message).method, Method::FindNode { target });
    // An ill-typed first one counts too: nobody can smuggle a second opinion in.
    assert_eq!(
        bad_query(&query("find_node", &format!("6:targeti1e6:target20:{HASH}"))),
        "target must be 20 bytes"
    );
    let args = format!("1:ad2:id20:{ID}e1:ad2:id20:{HASH}e");
    let message = top(&[&args, "1:q4:ping1:q4:vote", "1:t2:aa1:t2:bb", "1:y1:q1:y1:r"]);
    let decoded = decode(message.as_bytes()).unwrap();
    assert!(decoded.unsorted);
    assert_eq!(decoded.tid, b"aa");
    assert_eq!(decode_query(&message).id, node_id());
    assert_eq!(decode_query(&message).method, Method::Ping);
}

#[test]
fn tolerates_unknown_keys_at_any_level() {
    for value in ["i5e", "1:x", "l1:ai-3ed1:bleee", "d1:ad1:bd1:cleee1:zi0ee"] {
        let top = format!(
            "d1:ad2:id20:{ID}3:new{value}e1:b{value}1:q4:ping1:t2:aa1:u{value}1:y1:q1:z{value}e"
        );
        assert_eq!(decode_query(&top).method, Method::Ping);
        assert!(!decode(top.as_bytes()).unwrap().unsorted, "{top}");
        // libtorrent puts the requester's port into `r` as `p`.
        let reply = reply(&format!("1:p{value}5:token3:tok"));
        assert_eq!(decode_reply(reply.as_bytes()).token, Some(&b"tok"[..]));
    }
}

#[test]
fn rejects_leading_zeros() {
    for (args, cause) in [
        ("4:porti06881e", DecodeError::BadInteger),
        ("4:porti-06881e", DecodeError::BadInteger),
        ("1:xi00e", DecodeError::BadInteger),
        ("1:xi-0e", DecodeError::BadInteger),
        ("01:xi0e", DecodeError::BadLength),
        ("1:x01:a", DecodeError::BadLength),
        ("1:x00:", DecodeError::BadLength),
    ] {
        assert_eq!(decode(query("ping", args).as_bytes()), Err(cause), "{args}");
    }
}

#[test]
fn ignores_trailing_bytes() {
    for tail in ["e", "\0\0\0", "d1:t2:bbe", "5:x"] {
        let message = query("ping", "") + tail;
        assert_eq!(decode(message.as_bytes()), decode(query("ping", "").as_bytes()));
    }
}

#[test]
fn reads_a_tid_of_any_length() {
    for len in [0, 1, 2, 4, 8, 15, 16, 63, 500] {
        let tid = "t".repeat(len);
        let message = format!("d1:ad2:id20:{ID}e1:q4:ping1:t{len}:{tid}1:y1:qe");
        assert_eq!(decode(message.as_bytes()).unwrap().tid, tid.as_bytes());
        let message = format!("d1:rd2:id20:{ID}e1:t{len}:{tid}1:y1:re");
        assert_eq!(decode(message.as_bytes()).unwrap().tid, tid.as_bytes());
    }
}

#[test]
fn takes_whole_records_of_nodes_with_a_tail() {
    for tail in ["", "x", "xxxxxxxxxxxxxxxxxxxxxxxxx"] {
        let nodes = format!("{ID}axje.u{HASH}idhtnm");
        let message = reply(&format!("5:nodes{}:{nodes}{tail}", 52 + tail.len()));
        assert_eq!(decode_reply(message.as_bytes()).nodes, Some(nodes.as_bytes()));
    }
    let message = reply("5:nodes3:abc");
    assert_eq!(decode_reply(message.as_bytes()).nodes, Some(&b""[..]));
}

#[test]
fn takes_whole_records_of_nodes6_with_a_tail() {
    for tail in ["", "x", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"] {
        let nodes = format!("{ID}0123456789abcdef.u");
        let message = reply(&format!("6:nodes6{}:{nodes}{tail}", 38 + tail.len()));
        assert_eq!(decode_reply(message.as_bytes()).nodes6, Some(nodes.as_bytes()));
    }
}

#[test]
fn takes_whole_infohashes_of_samples_with_a_tail() {
    let message = reply(&format!("7:samples23:{HASH}xyz"));
    assert_eq!(decode_reply(message.as_bytes()).samples, Some(HASH.as_bytes()));
    // BEP 51: empty samples say that the node knows the method.
    let message = reply("7:samples0:");
    assert_eq!(decode_reply(message.as_bytes()).samples, Some(&b""[..]));
}

#[test]
fn takes_more_than_16_nodes() {
    let record = format!("{ID}axje.u");
    let message = reply(&format!("5:nodes{}:{}", 26 * 200, record.repeat(200)));
    let reply = decode_reply(message.as_bytes());
    assert_eq!(nodes::<core::net::SocketAddrV4>(reply.nodes.unwrap()).count(), 200);
}

#[test]
fn leaves_out_peers_with_port_0() {
    let message = reply("6:valuesl6:axje\0\x006:axje\0\x01e");
    assert_eq!(peers(&decode_reply(message.as_bytes())), addrs(&["97.120.106.101:1"]));
}

#[test]
fn reads_values_of_mixed_lengths() {
    let six = "18:\x20\x010123456789abcd\x1a\x65";
    let list = format!("l6:axje.u{six}5:abcdei7el6:idhtnme0:12:axje.uaxje.u6:idhtnme");
    let message = reply(&format!("6:values{list}"));
    assert_eq!(
        peers(&decode_reply(message.as_bytes())),
        addrs(&[
            "97.120.106.101:11893",
            "[2001:3031:3233:3435:3637:3839:6162:6364]:6757",
            "105.100.104.116:28269",
        ])
    );
}

#[test]
fn reads_values_as_one_concatenated_string() {
    let expected = addrs(&["97.120.106.101:11893", "105.100.104.116:28269"]);
    for values in ["12:axje.uidhtnm", "l12:axje.uidhtnme", "14:axje.uidhtnmxx"] {
        let message = reply(&format!("6:values{values}"));
        assert_eq!(peers(&decode_reply(message.as_bytes())), expected, "{values}");
    }
    // A list of one string of compact length is one peer, not three.
    let message = reply("6:valuesl18:0123456789abcdefxye");
    assert_eq!(peers(&decode_reply(message.as_bytes())).len(), 1);
    let message = reply("6:valuesl7:axje.uxe");
    assert_eq!(peers(&decode_reply(message.as_bytes())), []);
}

#[test]
fn reads_empty_values() {
    for values in ["le", "0:", "l0:e"] {
        let message = reply(&format!("6:values{values}"));
        assert_eq!(peers(&decode_reply(message.as_bytes())), [], "{values}");
    }
}

#[test]
fn reads_values_and_nodes_together_or_neither() {
    let both = reply(&format!("5:nodes26:{ID}axje.u6:valuesl6:axje.ue"));
    let decoded = decode_reply(both.as_bytes());
    assert!(decoded.nodes.is_some() && decoded.values.is_some());
    let neither = reply("");
    assert_eq!(decode_reply(neither.as_bytes()), Reply::new(node_id()));
}

#[test]
fn reads_a_message_by_y_alone() {
    let a = format!("1:ad2:id20:{HASH}6:target20:{HASH}e");
    let e = "1:eli201e4:oopse";
    let q = "1:q9:find_node";
    let r = format!("1:rd2:id20:{ID}e");
    let all = |y: &str| top(&[&a, e, q, &r, "1:t2:aa", "1:y1:", y]);
    assert_eq!(decode_reply(all("r").as_bytes()).id, node_id());
    assert!(matches!(decode_query(&all("q")).method, Method::FindNode { .. }));
    assert_eq!(decode_error(&all("e")), ErrorReply { code: 201, message: b"oops" });
    // `q` alone beside `r`, and whatever nonsense the other bodies are.
    let message = top(&["1:q4:ping", &r, "1:t2:aa", "1:y1:r"]);
    assert_eq!(decode_reply(message.as_bytes()).id, node_id());
    let message = top(&["1:ai1e", "1:ei1e", "1:qle", &r, "1:t2:aa", "1:y1:r"]);
    assert_eq!(decode_reply(message.as_bytes()).id, node_id());
}

#[test]
fn reads_a_token_of_any_length() {
    for len in [0, 1, 4, 20, 39, 40, 128, 1000] {
        let token = "t".repeat(len);
        let message = reply(&format!("5:token{len}:{token}"));
        assert_eq!(decode_reply(message.as_bytes()).token, Some(token.as_bytes()));
        let args = format!("9:info_hash20:{HASH}4:porti1e5:token{len}:{token}");
        let message = query("announce_peer", &args);
        let Method::AnnouncePeer { token: read, .. } = decode_query(&message).method else {
            panic!("{message}")
        };
        assert_eq!(read, token.as_bytes());
    }
}

#[test]
fn ignores_a_want_that_is_no_list_and_unknown_strings_in_it() {
    let want = |value: &str| {
        decode_query(&query("find_node", &format!("6:target20:{HASH}4:want{value}"))).want
    };
    for value in ["2:n4", "i4e", "d2:n4i1ee", "le", "l2:n52:xxi4el2:n4ee"] {
        assert_eq!(want(value), Want::default(), "{value}");
    }
    assert_eq!(want("l3:foo2:n6i1ee"), Want { n4: false, n6: true });
    assert_eq!(want("l2:n42:n42:n6e"), Want { n4: true, n6: true });
}

#[test]
fn reads_ro_at_the_top_or_inside_a() {
    let inside = |ro: &str| format!("1:ad2:id20:{ID}{ro}e");
    let ro = |a: &str, top_ro: &str| {
        decode(top(&[a, "1:q4:ping", top_ro, "1:t2:aa1:y1:q"]).as_bytes()).unwrap().read_only
    };
    assert!(!ro(&inside(""), ""));
    assert!(ro(&inside(""), "2:roi1e"));
    assert!(ro(&inside("2:roi1e"), ""));
    for other in ["2:roi0e", "2:roi2e", "2:ro1:1", "2:role"] {
        assert!(!ro(&inside(other), other), "{other}");
    }
}

#[test]
fn reads_ip_of_4_6_16_or_18_bytes_and_ignores_the_rest() {
    let ip = |value: &str| {
        let message = format!("d2:ip{value}1:rd2:id20:{ID}e1:t2:aa1:y1:re");
        decode(message.as_bytes()).unwrap().ip
    };
    let v4: IpAddr = "97.120.106.101".parse().unwrap();
    let v6: IpAddr = "3031:3233:3435:3637:3839:6162:6364:6566".parse().unwrap();
    assert_eq!(ip("4:axje"), Some((v4, None)));
    assert_eq!(ip("6:axje.u"), Some((v4, Some(11_893))));
    assert_eq!(ip("16:0123456789abcdef"), Some((v6, None)));
    assert_eq!(ip("18:0123456789abcdef.u"), Some((v6, Some(11_893))));
    for other in ["0:", "1:x", "5:axje.", "7:axje.ux", "17:0123456789abcdef.", "i5e", "l4:axjee"] {
        assert_eq!(ip(other), None, "{other}");
    }
    // In queries it means nothing, of whatever size.
    let message = format!("d1:ad2:id20:{ID}e2:ip3:abc1:q4:ping1:t2:aa1:y1:qe");
    assert_eq!(decode_query(&message).method, Method::Ping);
}

#[test]
fn reads_an_error_body_of_any_shape() {
    let error = |body: &str| {
        let message = format!("d{body}1:t2:aa1:y1:ee");
        let ErrorReply { code, message } = decode_error(&message);
        (code, String::from_utf8(message.to_vec()).unwrap())
    };
    assert_eq!(error("1:eli202e5:Servee"), (202, "Serve".to_string()));
    assert_eq!(error("1:e5:words"), (0, "words".to_string()));
    assert_eq!(error("1:eli203ee"), (203, String::new()));
    assert_eq!(error("1:el3:203e"), (0, String::new()));
    assert_eq!(error("1:el3:2035:wordse"), (0, "words".to_string()));
    assert_eq!(error("1:eli204e1:ai5e1:be"), (204, "a".to_string()));
    assert_eq!(error("1:eli99999999999999999999e1:ae"), (0, "a".to_string()));
    for malformed in ["", "1:ei203e", "1:ele", "1:ede", "1:ellee"] {
        assert_eq!(error(malformed), (0, String::new()), "{malformed}");
    }
}

#[test]
fn treats_ill_typed_reply_fields_as_absent() {
    let with_types = |number: &str, text: &str| {
        format!(
            "8:interval{number}1:k{text}5:nodes{text}6:nodes6{text}3:num{number}7:samples{text}\
             3:seq{number}3:sig{text}5:token{text}6:values{text}"
        )
    };
    for (number, text) in [("1:1", "i1e"), ("le", "de"), ("i9223372036854775808e", "i-1e")] {
        let message = reply(&with_types(number, text));
        assert_eq!(decode_reply(message.as_bytes()), Reply::new(node_id()), "{message}");
    }
    let message = reply("1:k3:abc3:sig3:abc4:BFpe3:abc4:BFsd3:abc");
    assert_eq!(decode_reply(message.as_bytes()), Reply::new(node_id()));
}

#[test]
fn reads_seq_of_every_size() {
    for (text, seq) in [
        ("i0e", Some(0)),
        ("i-1e", Some(-1)),
        ("i9223372036854775807e", Some(i64::MAX)),
        ("i-9223372036854775808e", Some(i64::MIN)),
        ("i-9223372036854775809e", None),
        ("i9223372036854775808e", None),
        ("1:5", None),
    ] {
        let message = reply(&format!("3:seq{text}"));
        assert_eq!(decode_reply(message.as_bytes()).seq, seq, "{text}");
        let message = query("get", &format!("3:seq{text}6:target20:{HASH}"));
        assert!(matches!(decode_query(&message).method, Method::Get { seq: s, .. } if s == seq));
    }
}

#[test]
fn reads_both_names_of_the_seed_filter() {
    let filter = "f".repeat(256);
    for name in ["BFsd", "BFse"] {
        let message = format!("d1:rd4:{name}256:{filter}2:id20:{ID}e1:t2:aa1:y1:re");
        assert_eq!(decode_reply(message.as_bytes()).seeds_filter.unwrap(), filter.as_bytes());
    }
}

#[test]
fn reads_replies_of_several_kilobytes_but_no_more_than_8() {
    let whole = |len: usize| {
        let nodes = "n".repeat(len);
        reply(&format!("5:nodes{len}:{nodes}"))
    };
    let overhead = whole(8_000).len() - 8_000;
    let longest = whole(MAX_DATAGRAM_READ - overhead);
    assert_eq!(longest.len(), MAX_DATAGRAM_READ);
    assert!(decode_reply(longest.as_bytes()).nodes.is_some());
    let over = whole(MAX_DATAGRAM_READ - overhead + 1);
    assert_eq!(decode(over.as_bytes()), Err(DecodeError::TooLong));
}
