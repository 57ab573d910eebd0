//! Posting, paging, permanent links.

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use crate::support::{Backend, Person, Server, assert_contains, assert_lacks};

on_both_stores!(
    posting_answers_as_it_was_asked,
    curl_just_works,
    a_retry_is_the_first_message,
    a_refused_post_gives_the_text_back,
    the_log_is_read_in_pages,
    a_permanent_link_shows_its_surroundings,
);

async fn at_tea(backend: Backend) -> (Server, Person) {
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    (server, ana)
}

fn post(person: &Person) -> reqwest::RequestBuilder {
    person.request(Method::POST, "/rooms/tea/messages")
}

async fn posting_answers_as_it_was_asked(backend: Backend) {
    let (_server, ana) = at_tea(backend).await;
    let plain = ana
        .post("/rooms/tea/messages", &[("body", "plain"), ("nonce", "n1")])
        .await;
    assert_eq!(plain.status(), StatusCode::SEE_OTHER);
    assert_eq!(plain.headers()["location"], "/rooms/tea");

    let fragment = post(&ana)
        .header("hx-request", "true")
        .header("hx-request-type", "partial")
        .header(ACCEPT, "text/html, text/event-stream")
        .form(&[("body", "fragment"), ("nonce", "n2")])
        .send()
        .await
        .unwrap();
    assert_eq!(fragment.status(), StatusCode::OK);
    assert_contains(
        fragment.headers()["vary"].to_str().unwrap(),
        "hx-request-type",
    );
    let composer = fragment.text().await.unwrap();
    assert!(composer.starts_with("<form id=\"composer\""), "{composer}");
    assert_lacks(&composer, "value=\"n2\"");
    assert_lacks(&composer, "fragment");

    let json = post(&ana)
        .header(ACCEPT, "application/json")
        .form(&[("body", "json")]);
    let json = json.send().await.unwrap();
    assert_eq!(json.status(), StatusCode::CREATED);
    assert_eq!(json.headers()["location"], "/rooms/tea/messages/4");
    let event: Value = json.json().await.unwrap();
    assert_eq!(
        event["author"],
        serde_json::json!({ "id": ana.id, "username": "ana" })
    );
    assert_eq!(event["type"], "message");
    assert_eq!(event, ana.json("/rooms/tea/messages/4").await);
    let bodies: Vec<Value> = ana
        .log("tea")
        .await
        .iter()
        .map(|event| event["body"].clone())
        .collect();
    assert_eq!(bodies[1..], ["plain", "fragment", "json"]);
}

async fn curl_just_works(backend: Backend) {
    let (_server, ana) = at_tea(backend).await;
    let bytes = b"  indented\r\nand = two & lines?\r\n".as_slice();
    // Bodies of --data-binary without and with a header of its own, and of -d without a name.
    for content_type in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "text/plain; charset=utf-8",
        "application/octet-stream",
    ] {
        let request = post(&ana)
            .header(CONTENT_TYPE, content_type)
            .header(ACCEPT, "text/plain");
        let answer = request.body(bytes).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        let line = answer.text().await.unwrap();
        assert_contains(&line, " ana:   indented ↵ and = two & lines?\n");
    }
    let json = post(&ana).json(&serde_json::json!({ "body": "json", "nonce": "n" }));
    assert_eq!(json.send().await.unwrap().status(), StatusCode::SEE_OTHER);
    let log = ana.log("tea").await;
    assert_eq!(log[1]["body"], "  indented\nand = two & lines?");
    assert_eq!(log.len(), 6);

    let multipart = post(&ana)
        .header(CONTENT_TYPE, "multipart/mixed; boundary=x")
        .body("--x--");
    let multipart = multipart
        .header(ACCEPT, "application/json")
        .send()
        .await
        .unwrap();
    assert_eq!(multipart.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for (content_type, body) in [
        ("application/json", "[1]"),
        ("application/json", "{\"body\":1}"),
    ] {
        let request = post(&ana).header(CONTENT_TYPE, content_type).body(body);
        let answer = request
            .header(ACCEPT, "application/json")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    let latin = post(&ana)
        .header(CONTENT_TYPE, "text/plain")
        .body(b"caf\xe9".as_slice());
    let latin = latin
        .header(ACCEPT, "application/json")
        .send()
        .await
        .unwrap();
    assert_eq!(latin.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

async fn a_retry_is_the_first_message(backend: Backend) {
    let (mut server, ana) = at_tea(backend).await;
    let retry = async |body: &str, nonce: &str| -> Response {
        ana.tries_to_say("tea", body, Some(nonce)).await.unwrap()
    };
    let first: Value = retry("hello", "key-1").await.json().await.unwrap();
    let again = retry("hello", "key-1").await;
    assert_eq!(again.status(), StatusCode::CREATED);
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    // The form's field is the same nonce.
    let form = [("body", "hello"), ("nonce", "key-1")];
    assert_eq!(
        ana.post("/rooms/tea/messages", &form).await.status(),
        StatusCode::SEE_OTHER
    );
    assert_eq!(
        retry("goodbye", "key-1").await.status(),
        StatusCode::CONFLICT
    );

    server.kill();
    server.start_again().await;
    assert_eq!(
        retry("hello", "key-1").await.json::<Value>().await.unwrap(),
        first
    );
    assert_eq!(
        retry("goodbye", "key-1").await.status(),
        StatusCode::CONFLICT
    );
    for bad in ["two words", &"x".repeat(129)] {
        assert_eq!(
            retry("hello", bad).await.status(),
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
    assert_eq!(ana.log("tea").await.len(), 2);
}

async fn a_refused_post_gives_the_text_back(backend: Backend) {
    let (_server, ana) = at_tea(backend).await;
    let long = "<long> ".repeat(700);
    for (body, says) in [
        ("  \r\n ", "Write something first."),
        (&long, "4,000 characters"),
        ("a\0b", "NUL"),
    ] {
        for kind in ["full", "partial"] {
            let request = post(&ana)
                .header("hx-request-type", kind)
                .form(&[("body", body)]);
            let answer = request.header(ACCEPT, "text/html").send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
            let page = answer.text().await.unwrap();
            assert_contains(&page, says);
            assert_eq!(page.starts_with("<form id=\"composer\""), kind == "partial");
            if body == long {
                assert_contains(&page, &"&#60;long&#62; ".repeat(700));
            }
        }
        let json = post(&ana)
            .header(ACCEPT, "application/json")
            .form(&[("body", body)]);
        let problem: Value = json.send().await.unwrap().json().await.unwrap();
        assert_eq!(problem["status"], 422);
        assert_contains(problem["detail"].as_str().unwrap(), says);
    }
    let exactly = "é".repeat(4_000);
    ana.says("tea", &exactly).await;
    assert_eq!(ana.log("tea").await.len(), 2);
}

async fn the_log_is_read_in_pages(backend: Backend) {
    let (_server, ana) = at_tea(backend).await;
    for number in 2..=60 {
        ana.says("tea", &format!("number {number}")).await;
    }
    let numbers = async |query: &str| -> Vec<u64> {
        let page = ana.json(&format!("/rooms/tea/messages?{query}")).await;
        assert_eq!(page["head"], 60);
        let events = page["events"].as_array().unwrap().clone();
        events
            .iter()
            .map(|event| event["seq"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(numbers("").await, (11..=60).collect::<Vec<_>>());
    assert_eq!(numbers("before=11").await, (1..=10).collect::<Vec<_>>());
    assert_eq!(numbers("after=58").await, [59, 60]);
    assert_eq!(numbers("after=10&limit=2").await, [11, 12]);
    assert_eq!(numbers("before=10&limit=2").await, [8, 9]);
    assert_eq!(numbers("after=60").await, [0_u64; 0]);
    assert_eq!(numbers("after=999").await, [0_u64; 0]);
    for bad in [
        "after=x",
        "before=-1",
        "after=",
        "limit=0",
        "limit=201",
        "limit=x",
        "after=1&wait=31",
    ] {
        let answer = ana
            .get_as("application/json", &format!("/rooms/tea/messages?{bad}"))
            .await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let text = ana
        .get_as("text/plain", "/rooms/tea/messages?after=58")
        .await;
    let text = text.text().await.unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.ends_with(" ana: number 60\n"), "{text}");

    let room = ana.get("/rooms/tea").await.text().await.unwrap();
    assert_eq!(room.matches("<li class=\"message").count(), 50);
    assert_contains(&room, "href=\"/rooms/tea/messages?before=11\"");
    let page = ana
        .get("/rooms/tea/messages?before=11")
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&page, "<!doctype html>");
    assert_contains(&page, "number 10<");
    assert_contains(&page, "href=\"/rooms/tea/messages?after=10\"");
    let request = ana.request(Method::GET, "/rooms/tea/messages?before=60&limit=5");
    let fragment = request
        .header("hx-request-type", "partial")
        .send()
        .await
        .unwrap();
    let fragment = fragment.text().await.unwrap();
    assert_lacks(&fragment, "<html");
    assert_contains(&fragment, "id=\"older\"");
    assert_contains(&fragment, "before=55");
    assert_contains(&fragment, "id=\"m-59\"");
}

async fn a_permanent_link_shows_its_surroundings(backend: Backend) {
    let (_server, ana) = at_tea(backend).await;
    for number in 2..=9 {
        ana.says("tea", &format!("number {number}")).await;
    }
    let page = ana.get("/rooms/tea/messages/5").await;
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.unwrap();
    assert_contains(&page, "<li class=\"message marked\" id=\"m-5\"");
    assert_eq!(page.matches(" marked\"").count(), 1);
    assert_eq!(page.matches("id=\"m-").count(), 9, "each once");
    let text = ana.get_as("text/plain", "/rooms/tea/messages/5").await;
    assert!(text.text().await.unwrap().ends_with(" ana: number 5\n"));
    for missing in ["0", "10", "x", "99999999999999999999"] {
        let answer = ana.get(&format!("/rooms/tea/messages/{missing}")).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{missing}");
    }
    let wrong_method = ana
        .request(Method::PUT, "/rooms/tea/messages/5")
        .send()
        .await
        .unwrap();
    assert_eq!(wrong_method.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_contains(wrong_method.headers()["allow"].to_str().unwrap(), "GET");
}
