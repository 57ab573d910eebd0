//! MongoDB's refusal at the start is one line, which names the setting and holds no secret.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use mongodb::bson::{Document, doc};

use crate::support::{MongoDb, assert_contains, assert_lacks};

#[track_caller]
fn refuses(uri: &str, line: &str, why: &str) {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .arg("30")
        .arg(env!("CARGO_BIN_EXE_parlor"))
        .arg(line)
        .env_clear()
        .envs([
            ("MONGODB_URI", uri),
            ("JWT_SECRET", &"x".repeat(32)),
            ("STARTUP_WAIT", "3"),
            ("BIND_ADDR", "127.0.0.1:0"),
        ])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let says = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{uri}: {says}");
    assert_contains(&says, why);
    assert_contains(&says, "MONGODB_URI");
    assert_eq!(says.lines().count(), 1, "{says}");
    assert!(says.len() < 400, "{} bytes: {says}", says.len());
    for part in ["hunter2", "Kind:", "labels", "Some(", "{"] {
        assert_lacks(&says, part);
    }
    let log = String::from_utf8(output.stdout).unwrap();
    assert_lacks(&log, "hunter2");
    assert_lacks(&log, "Kind:");
}

#[track_caller]
fn refuses_all(uri: &str, why: &str) {
    for line in ["serve", "export", "import", "went-back"] {
        refuses(uri, line, why);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_address_is_said() {
    let port = MongoDb::shared().await.port;
    for uri in [
        "mongodb://",
        "mongodb://ana:hunter2/p@ss@127.0.0.1:1/x",
        "mongodb://ana:hunter2@127.0.0.1:notaport/x",
        "mongodb://127.0.0.1:1/x?w=-3",
        "mongodb://127.0.0.1:1/x?readConcernLevel=",
        "mongodb://127.0.0.1:1/x?maxPoolSize=many",
        "mongodb://127.0.0.1:1/x?authMechanism=hunter2",
        "mongodb://127.0.0.1:1/x?tls=true&tlsInsecure=true&tlsAllowInvalidCertificates=false",
        "mongodb://127.0.0.1:1,127.0.0.1:2/x?directConnection=true",
        "mongodb+srv://ana:hunter2@one/x",
    ] {
        refuses(uri, "serve", "MONGODB_URI");
    }
    refuses_all(
        &format!("mongodb://127.0.0.1:{port}/x?replicaSet=other"),
        "is called rs0, and MONGODB_URI asks for other",
    );
    refuses("mongodb://127.0.0.1:1/x", "serve", "Connection refused");
    refuses(
        &format!("mongodb://127.0.0.1:{port}/x?tls=true&replicaSet=rs0"),
        "serve",
        "STARTUP_WAIT",
    );
    refuses(
        &format!("mongodb://ana:hunter2@127.0.0.1:{port}/x?replicaSet=rs0"),
        "serve",
        "check the user",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongod_alone_is_no_replica_set() {
    let alone = MongoDb::standalone().await;
    let uri = format!("mongodb://127.0.0.1:{}/x?replicaSet=rs0", alone.port);
    refuses_all(&uri, "not a member of a replica set");
    let uri = format!("mongodb://127.0.0.1:{}/x", alone.port);
    for line in ["serve", "import", "went-back"] {
        refuses(&uri, line, "mongosh --eval 'rs.initiate()'");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_is_told_so() {
    let guarded = MongoDb::guarded().await;
    let at = |user: &str| format!("mongodb://{user}127.0.0.1:{}/x", guarded.port);
    refuses_all(&at("root:hunter2-no@"), "check the user");
    refuses(&at("nobody:hunter2@"), "serve", "check the user");
    let from_elsewhere = format!("{}?authSource=x", at("root:hunter2@"));
    refuses(&from_elsewhere, "serve", "check the user");
    let reader = format!("{}?authSource=admin", at("reader:hunter2@"));
    for line in ["serve", "went-back"] {
        refuses(&reader, line, "grant the role readWrite");
    }
    refuses(&at(""), "serve", "MONGODB_URI");
}

/// A server of before 4.2, as far as it says hello.
#[test]
fn a_server_that_is_too_old_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || say_hello_to(client));
        }
    });
    let uri = format!("mongodb://127.0.0.1:{port}/x?replicaSet=rs0");
    refuses(&uri, "serve", "wire version");
}

/// Answers every message with an old primary's hello, in the form it was asked in.
/// Source: <https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/>
fn say_hello_to(mut client: TcpStream) -> Option<()> {
    let address = client.local_addr().ok()?.to_string();
    let hello: Document = doc! {
        "ok": 1, "ismaster": true, "isWritablePrimary": true, "helloOk": true,
        "setName": "rs0", "hosts": [&address], "me": &address, "primary": &address,
        "minWireVersion": 0, "maxWireVersion": 5, "maxBsonObjectSize": 16_777_216,
        "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
    };
    let document = hello.to_vec().ok()?;
    loop {
        let mut head = [0; 16];
        client.read_exact(&mut head).ok()?;
        let number = |at: usize| i32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let mut rest = vec![0; usize::try_from(number(0)).ok()? - 16];
        client.read_exact(&mut rest).ok()?;
        let (kind, mut body) = match number(12) {
            // OP_QUERY is answered with OP_REPLY.
            2_004 => (
                1,
                [&[0; 4][..], &[0; 8], &[0; 4], &1_i32.to_le_bytes()].concat(),
            ),
            _ => (2_013, vec![0; 5]),
        };
        body.extend(&document);
        let length = i32::try_from(body.len() + 16).ok()?;
        let mut answer = Vec::new();
        for part in [length, 1, number(4), kind] {
            answer.extend(part.to_le_bytes());
        }
        answer.extend(body);
        client.write_all(&answer).ok()?;
    }
}
