use std::sync::atomic::AtomicU32;

use super::*;

fn memory() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    let table = "CREATE TABLE written (number INTEGER)";
    connection.execute_batch(table).unwrap();
    connection
}

fn start(on_durable: OnDurable) -> Writer {
    let lock = tempfile::tempfile().unwrap();
    let marking = Marking::new(std::path::Path::new("none"), &lock).unwrap();
    Writer::start(memory(), memory(), on_durable, marking).unwrap()
}

async fn write(writer: &Writer, number: u32) -> Result<(), StoreError> {
    writer
        .write("test", move |connection, changes| {
            connection
                .execute("INSERT INTO written VALUES (?1)", [number])
                .map_err(|error| StoreError::backend("test", error))?;
            let revoked = crate::domain::SessionId::new();
            changes.push(Durable::Change(crate::store::Change::SessionRevoked(
                revoked,
            )));
            Ok(())
        })
        .await
}

/// A listener may panic, as a log does that cannot be written; a durable write is answered.
#[tokio::test]
async fn what_is_told_decides_nothing() {
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    let on_durable = Box::new(move |_| {
        assert_ne!(count.fetch_add(1, Ordering::Relaxed) % 2, 0, "a bug");
    });
    let writer = start(on_durable);
    for number in 0..4 {
        write(&writer, number).await.unwrap();
    }
    assert_eq!(told.load(Ordering::Relaxed), 4);
    writer.ready().unwrap();
}

/// A batch that panics where nothing was thought of fails alone, and leaves no transaction.
#[tokio::test]
async fn the_writer_comes_back() {
    let writer = start(Box::new(|_| {}));
    write(&writer, 0).await.unwrap();
    let bad: Job = Box::new(|_, _| panic!("a bug"));
    assert!(writer.jobs.try_send(bad).is_ok());
    while write(&writer, 1).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let count = |connection: &Connection, _: &mut Vec<_>| {
        let count = connection.query_row("SELECT count(*) FROM written", [], |row| row.get(0));
        count.map_err(|error| StoreError::backend("test", error))
    };
    let written: u32 = writer.write("test", count).await.unwrap();
    assert_eq!(written, 2);
}

/// Invariant: a writer that is closed right after a write, when it may still be up, is closed in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_right_after_a_write_is_in_order() {
    for number in 0..2_000 {
        let writer = start(Box::new(|_| {}));
        write(&writer, number).await.unwrap();
        writer.close().await.unwrap();
    }
}
