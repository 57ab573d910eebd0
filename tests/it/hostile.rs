//! Text that means harm, through every format.

use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::support::{Backend, Server, assert_contains, assert_lacks};

on_both_stores!(hostile_text_stays_text);

/// The effect that each of these would have, were anything pasted unescaped.
const TEXTS: [&str; 17] = [
    "<script>alert(1)</script>",
    "</div></li><img src=x onerror=alert(1)>",
    "\"><b hx-get=\"/x\" hx-trigger=load data-hx-get=/x>",
    "<hx-partial hx-target=body>x</hx-partial><template><title>x</title>",
    "javascript:alert(1) http://a.example/\"onmouseover=alert(1)",
    "https://a.example/<script>alert(1)</script>",
    "one\ndata: two\nid: 9999\n\nevent: message\ndata: {}",
    "one\r\n\r\nid: 9999\revent: signed-out\r\rdata: x",
    "line\u{2028}separator\u{2029}id: 9999\u{85}next",
    "{{ 7*7 }} {% include \"x\" %} ${7*7}",
    "\u{202e}evil\u{2066}\u{200b} \u{1b}[2J\u{7}",
    "12:00:00 ben: I never said this\n12:00:01 ben: nor this",
    "[a](javascript:alert(1)) [b](data:text/html,x) ![c](http://a.example/\" onerror=alert(1))",
    "[a](http://a.example/\"onmouseover=alert(1) 'title\" onclick=alert(1)')",
    "```\" onclick=alert(1) x\n</code></pre><script>alert(1)</script>\n```",
    "> - **<b onclick=alert(1)>** </blockquote></li>\n\n</ul>",
    "[a]: javascript:alert(1)\n[a] <javascript:alert(1)> <http://a.example/\"onclick=alert(1)>",
];

async fn hostile_text_stays_text(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let count = TEXTS.len();
    let path = "/rooms/tea/events?after=1";
    let accept =
        |kind: &str| HeaderMap::from_iter([(reqwest::header::ACCEPT, kind.parse().unwrap())]);
    let mut json = ana.listens_at(path, HeaderMap::new()).await;
    let mut html = ana
        .listens_at(&format!("{path}&format=html"), HeaderMap::new())
        .await;
    let mut text = ana.listens_at(path, accept("text/plain")).await;
    let mut ndjson = ana.listens_at(path, accept("application/x-ndjson")).await;
    let mut live = ana
        .listens_at("/rooms/tea/live?after=1", HeaderMap::new())
        .await;
    for hostile in TEXTS {
        let answer = ana.tries_to_say("tea", hostile, None).await.unwrap();
        assert_eq!(answer.status(), 201, "{hostile:?}");
    }
    let meant = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");

    // The listener itself fails on a line that is no field and on a carriage return.
    for (hostile, seq) in TEXTS.iter().zip(2..) {
        let event = json.next_event().await.unwrap();
        assert_eq!(event.seq(), seq);
        assert_eq!(event.name.as_deref(), Some("message"));
        assert_eq!(event.json()["body"], meant(hostile));
        let row = html.next_event().await.unwrap();
        assert_eq!((row.seq(), row.name), (seq, None));
        assert_inert(&row.data);
    }
    assert_eq!(json.raw.matches("\nid: ").count(), count);
    assert_eq!(html.raw.matches("\nid: ").count(), count);
    for framing in ["\nid: 9999", "\nevent: signed-out"] {
        assert_lacks(&json.raw, framing);
        assert_lacks(&html.raw, framing);
    }

    ana.says("tea", "the end").await;
    let lines = text.text_until("the end\n").await;
    assert_eq!(lines.lines().count(), count + 1, "{lines}");
    assert!(
        lines.lines().all(|line| line[8..].starts_with(" ana: ")),
        "{lines}"
    );
    assert_lacks(&lines, "\u{1b}");
    assert_lacks(&lines, "\u{2028}");
    let lines = ndjson.text_until("the end\"}\n").await;
    let bodies: Vec<Value> = lines
        .split_terminator('\n')
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["body"].clone())
        .collect();
    let all = TEXTS
        .iter()
        .map(|text| meant(text))
        .chain(["the end".to_owned()]);
    assert_eq!(bodies, all.collect::<Vec<_>>());
    let document = live.text_until("the end</div>").await;
    let (_, rows) = document.split_once("<ol class=\"log\">").unwrap();
    assert_inert(rows);

    for page in [
        "/rooms/tea",
        "/rooms/tea/messages",
        "/rooms/tea/messages/3",
        "/rooms",
    ] {
        let html = ana.get_as("text/html", page).await.text().await.unwrap();
        for pasted in [
            "<script>alert",
            "<img src=x",
            "<b hx-",
            "<hx-",
            "<template",
            "onerror=alert(1)>",
        ] {
            assert_lacks(&html, pasted);
        }
    }
    let nul = ana.tries_to_say("tea", "a\0b", None).await.unwrap();
    assert_eq!(nul.status(), 422);
}

/// Only the tags and attributes of our own row, and links to http(s) alone.
fn assert_inert(html: &str) {
    for tag in html.split('<').skip(1) {
        let name = tag
            .split(|c: char| c.is_whitespace() || c == '>')
            .next()
            .unwrap();
        let ours = [
            "li",
            "/li",
            "img",
            "p",
            "/p",
            "b",
            "/b",
            "a",
            "/a",
            "time",
            "/time",
            "div",
            "/div",
            "code",
            "/code",
            "pre",
            "/pre",
            "span",
            "/span",
            "strong",
            "/strong",
            "em",
            "/em",
            "s",
            "/s",
            "ul",
            "/ul",
            "ol",
            "/ol",
            "blockquote",
            "/blockquote",
        ];
        assert!(ours.contains(&name) || name == "!--", "<{tag}");
        assert_lacks(tag.split('>').next().unwrap(), " on");
        assert_lacks(tag.split('>').next().unwrap(), "hx-");
        if name == "img" {
            assert_contains(tag, "src=\"/avatars/1/ana.svg\" alt=\"\"");
        }
        if let Some(target) = tag.strip_prefix("a href=\"") {
            assert!(
                target.starts_with("http") || target.starts_with("/rooms/tea/"),
                "{tag}"
            );
        }
    }
    assert_contains(html, "</div></li>");
}
