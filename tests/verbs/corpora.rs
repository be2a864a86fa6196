//! `slalom corpus`.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use serde_json::json;

use crate::person::{GRID, Person, Said};

#[test]
fn corpus_info_says_what_no_model_can_beat() {
    let person = Person::new();
    let info = &person.types("corpus info synthetic --output json").ends(0).json_lines()[0];
    assert_eq!(
        info["sha256"],
        json!("41ba8a70a5ba9cd312ad5c3c5d611672260107cb31d25f1753cc75703f97aa7d"),
        "docs/synthetic.md"
    );
    assert_eq!(info["chars"], json!(1_000_000));
    for (key, stated) in
        [("entropy_rate", 0.7109), ("perplexity_floor", 2.0358), ("oracle_perplexity", 2.0023)]
    {
        // docs/synthetic.md states four places.
        assert!((info[key].as_f64().expect("known") - stated).abs() < 0.000_05, "{key} in {info}");
    }
    person.writes("plain.txt", "some plain text");
    let info = person.types("corpus info plain.txt --valid-size 4").ends(0).stdout();
    assert!(info.contains("chars     15, of which the first 4 validate\n"), "{info}");
    assert!(!info.contains("entropy"), "{info}");
    assert_eq!(person.types("corpus list --output json").ends(0).stdout(), "[]\n", "looking caches nothing");
}

/// Answers one request on loopback with this head and so many zeros, then hangs up; returns the address to ask.
fn serve_once(head: String, zeros: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/text8.zip", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("one connection");
        let mut lines = BufReader::new(peer.try_clone().expect("a second handle")).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        // Who asked may have hung up already: that is what an announcement of another size is for.
        let _ = peer.write_all(head.as_bytes());
        let _ = io::copy(&mut io::repeat(0).take(zeros), &mut peer);
    });
    url
}

/// What is served is never the real archive: that one's way into the cache is `slalom_common::corpus::text8`'s to test.
#[test]
fn what_is_not_text8_is_refused_in_words_and_leaves_the_cache_as_it_was() {
    const TEXT8: u64 = 31_344_016;
    let announced =
        |bytes: u64| format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n");
    let absent = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned();
    let cases = [
        (announced(5000), 5000, "` gives 5000 bytes or more: the archive has 31344016\n"),
        (announced(TEXT8), 5000, "` was cut off after 5000 of 31344016 bytes: "),
        (announced(TEXT8), TEXT8, "` gives an archive of SHA-256 "),
        (absent, 0, "` was answered by HTTP status 404\n"),
    ];
    let person = Person::new();
    for (head, zeros, words) in cases {
        let url = serve_once(head, zeros);
        let line = format!("corpus fetch text8 --url {url}");
        // Nobody listens on port 1: a proxy is not asked for what is on this machine.
        let output =
            person.command(&line).env("http_proxy", "http://127.0.0.1:1").output().expect("it starts");
        Said { line, output }
            .ends(1)
            .mentions(&format!("error: `{url}"))
            .mentions(words)
            .mentions("\n  help: the cache is as it was; ");
        assert_eq!(fs::read_dir(person.path().join("cache")).expect("it was made").count(), 0, "{words}");
    }
    assert_eq!(person.types("corpus list --output quiet").ends(0).stdout(), "");
    person.types(&format!("plan {GRID} --corpus text8")).ends(1).mentions("text8 is not in the cache");
}
