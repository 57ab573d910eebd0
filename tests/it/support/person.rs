use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use super::{Listener, PASSWORD};

/// Somebody with a browser's cookie jar and a token, at one server.
#[derive(Clone)]
pub struct Person {
    pub name: String,
    pub token: String,
    pub id: String,
    pub base: String,
    browser: Client,
}

impl Person {
    /// Signs up with a name and an address made of it.
    pub async fn sign_up(base: &str, name: &str) -> Self {
        Self::sign_up_by(base, name, "").await
    }

    /// The same by a link that a server has printed.
    pub async fn sign_up_by(base: &str, name: &str, invite: &str) -> Self {
        let mut person = Self::nobody(base);
        let email = format!("{name}@example.org");
        let form = [
            ("username", name),
            ("email", &email),
            ("password", PASSWORD),
            ("invite", invite),
        ];
        let answer = person
            .request(Method::POST, "/signup")
            .header(ACCEPT, "application/json")
            .form(&form)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        let session: Value = answer.json().await.unwrap();
        person.name = name.to_owned();
        person.token = session["token"].as_str().unwrap().to_owned();
        person.id = session["user"]["id"].as_str().unwrap().to_owned();
        person
    }

    /// Somebody who signed up elsewhere, or earlier.
    pub async fn sign_in(base: &str, name: &str) -> Self {
        let mut person = Self::nobody(base);
        person.name = name.to_owned();
        person.signs_in_again().await
    }

    /// The same person with a new session.
    pub async fn signs_in_again(&self) -> Self {
        let form = [("username", self.name.as_str()), ("password", PASSWORD)];
        let browser = Self::nobody(&self.base);
        let request = browser.request(Method::POST, "/login").form(&form);
        let answer = request.header(ACCEPT, "application/json").send().await;
        let session: Value = answer.unwrap().json().await.unwrap();
        Self {
            token: session["token"].as_str().unwrap().to_owned(),
            ..self.at(&self.base)
        }
    }

    /// A browser in which nobody is signed in. It follows no redirects.
    pub fn nobody(base: &str) -> Self {
        Self {
            name: String::new(),
            token: String::new(),
            id: String::new(),
            base: base.to_owned(),
            browser: Client::builder()
                .cookie_store(true)
                .redirect(Policy::none())
                .timeout(Duration::from_secs(60))
                .build()
                .unwrap(),
        }
    }

    /// The same session at another server: the token goes along in a header.
    pub fn at(&self, base: &str) -> Self {
        Self {
            name: self.name.clone(),
            token: self.token.clone(),
            id: self.id.clone(),
            ..Self::nobody(base)
        }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.browser.request(method, format!("{}{path}", self.base));
        match self.token.as_str() {
            "" => request,
            token => request.bearer_auth(token),
        }
    }

    /// The same without the token: who asks is in the cookie, if it is anywhere.
    pub fn with_cookie(&self, method: Method, path: &str) -> RequestBuilder {
        self.browser.request(method, format!("{}{path}", self.base))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub async fn get_as(&self, accept: &str, path: &str) -> Response {
        let request = self.request(Method::GET, path).header(ACCEPT, accept);
        request.send().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> Value {
        let answer = self.get_as("application/json", path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json().await.unwrap()
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Response {
        let request = self.request(Method::POST, path).form(form);
        request.send().await.unwrap()
    }

    pub async fn enters(&self, room: &str) {
        let answer = self.post("/rooms", &[("room", room)]).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let to = answer.headers()["location"].to_str().unwrap();
        assert_eq!(to, format!("/rooms/{room}"));
    }

    /// Posts and answers the event's number.
    pub async fn says(&self, room: &str, body: &str) -> u64 {
        let answer = self.tries_to_say(room, body, None).await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        let event: Value = answer.json().await.unwrap();
        assert_eq!(event["body"], body);
        event["seq"].as_u64().unwrap()
    }

    /// Says the same so many times, as fast as ten of them can.
    pub async fn says_often(&self, room: &str, body: &str, times: usize) {
        let mut writers = JoinSet::new();
        for _ in 0..10 {
            let (writer, room, body) = (self.clone(), room.to_owned(), body.to_owned());
            writers.spawn(async move {
                for _ in 0..times / 10 {
                    writer.says(&room, &body).await;
                }
            });
        }
        writers.join_all().await;
    }

    /// Posts; an error when the connection breaks.
    pub async fn tries_to_say(
        &self,
        room: &str,
        body: &str,
        nonce: Option<&str>,
    ) -> reqwest::Result<Response> {
        let mut request = self
            .request(Method::POST, &format!("/rooms/{room}/messages"))
            .header(ACCEPT, "application/json")
            .form(&[("body", body)]);
        if let Some(nonce) = nonce {
            request = request.header("idempotency-key", nonce);
        }
        request.send().await
    }

    /// The whole log, page by page, checked to be 1, 2, 3, ….
    pub async fn log(&self, room: &str) -> Vec<Value> {
        let mut log: Vec<Value> = Vec::new();
        let mut after = "0".to_owned();
        loop {
            let path = format!("/rooms/{room}/messages?after={after}&limit=200");
            let page = self.json(&path).await;
            let events = page["events"].as_array().unwrap();
            for event in events {
                log.push(event.clone());
                assert_eq!(
                    event["seq"],
                    log.len(),
                    "the log has a gap, or something twice"
                );
            }
            after = page["cursor"].as_str().unwrap().to_owned();
            if log.len() as u64 == page["head"].as_u64().unwrap() {
                break;
            }
        }
        log
    }

    /// Opens the room's stream of JSON events at this address, with these headers.
    pub async fn listens_at(&self, path: &str, headers: HeaderMap) -> Listener {
        let request = self.request(Method::GET, path).headers(headers);
        // A stream has no end: the jar's client has a timeout, this one must not.
        let answer = request
            .timeout(Duration::from_secs(600))
            .send()
            .await
            .unwrap();
        Listener::new(answer)
    }

    pub async fn listens(&self, room: &str, after: u64) -> Listener {
        let path = format!("/rooms/{room}/events?after={after}");
        self.listens_at(&path, HeaderMap::new()).await
    }
}
