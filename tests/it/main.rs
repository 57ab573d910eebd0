//! The product as people and programs meet it: a real server process, over real sockets, on a real
//! SQLite file and a real MongoDB replica set. `tests/run` fetches what these tests need.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Makes each of these tests twice: on the embedded store and on MongoDB.
macro_rules! on_both_stores {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test($crate::support::Backend::Sqlite).await;
                }
            )*
        }
        mod mongodb {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test($crate::support::Backend::MongoDb).await;
                }
            )*
        }
    };
}

mod access;
mod account;
mod accounts;
mod admins;
mod asking;
mod backups;
mod balancer;
mod blocks;
mod bounds;
mod browser;
mod changes;
mod durability;
mod edge;
mod embedded;
mod erasure;
mod export_import;
mod guessing;
mod hostile;
mod invites;
mod kinds;
mod leaving;
mod levels;
mod limits;
mod logging;
mod mail;
mod memberships;
mod mentions;
mod messages;
mod migrations;
mod node_caches;
mod nodes;
mod operator;
mod pages;
mod process;
mod proxies;
mod readme;
mod refusals;
mod renames;
mod reports;
mod resets;
mod room_deletion;
mod rooms;
mod settings;
mod signals;
mod store_contract;
mod stream_threads;
mod streams;
mod support;
