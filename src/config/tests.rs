use super::*;

fn read(settings: &[(&str, &str)]) -> Result<Config, BadSetting> {
    Config::from_lookup(|name| {
        let found = settings.iter().find(|(key, _)| *key == name)?;
        Some(found.1.to_owned())
    })
}

#[test]
fn nothing_set_is_a_working_server() {
    let config = read(&[]).unwrap();
    assert_eq!(config.bind_addr.to_string(), "127.0.0.1:3000");
    assert_eq!(config.public_url.to_string(), "http://127.0.0.1:3000");
    assert_eq!(config.session_lifetime.as_secs(), 30 * 86_400);
    assert_eq!(config.streams_per_user, 32);
    assert!(config.rate_limits);
}

#[test]
fn a_bad_value_is_named_and_not_quoted() {
    let key = "0123456789abcdef0123456789abcdef";
    for (name, value) in [
        ("BIND_ADDR", "localhost"),
        ("PUBLIC_URL", "example.net"),
        ("PUBLIC_URL", "https://example.net/chat"),
        ("PUBLIC_URL", "ftp://example.net"),
        ("MONGODB_URI", "http://db"),
        ("JWT_SECRET", "short"),
        ("JWT_SECRET_PREVIOUS", "short"),
        ("DATA_DIR", "\"/vol\""),
        ("DATA_DIR", "'/vol'"),
        ("DATA_DIR", "\"/vol"),
        ("DATA_DIR", "/vol'"),
        ("DATA_DIR", "“/vol”"),
        ("DATA_DIR", "«/vol»"),
        ("DATA_DIR", "~/parlor"),
        ("DATA_DIR", "~"),
        ("DATA_DIR", "~ana/parlor"),
        ("DATA_DIR", "$HOME/parlor"),
        ("DATA_DIR", "/vol/${NAME}"),
        ("DATA_DIR", "file:///vol"),
        ("DATA_DIR", "/vol\n/x"),
        ("DATA_DIR", "\u{feff}/vol"),
        ("DATA_DIR", "/caf\u{fffd}"),
        ("BIND_ADDR", "\"127.0.0.1:3000\""),
        ("RUST_LOG", "\"info\""),
        ("MONGODB_URI", "'mongodb://db/parlor'"),
        ("JWT_SECRET", "\"0123456789abcdef0123456789abcdef\""),
        ("STARTUP_WAIT", "soon"),
        ("METRICS_ADDR", "everywhere"),
        ("SESSION_DAYS", "0"),
        ("SESSION_DAYS", "-1"),
        ("SIGNUP", "perhaps"),
        ("SMTP_URL", "post office"),
        ("SMTP_FROM", "nobody"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,nonsense"),
        ("STREAMS_PER_USER", "many"),
        ("REQUESTS_PER_USER", "0"),
        ("STREAM_THREADS", "few"),
        ("RATE_LIMITS", "maybe"),
        ("RUST_LOG", "parlor=loud"),
    ] {
        let says = read(&[(name, value)]).unwrap_err().to_string();
        assert!(says.starts_with(name), "{says}");
        assert!(value.len() < 3 || !says.contains(value), "{says}");
        assert!(!says.contains('\n'), "{says}");
    }
    let says = read(&[("MONGODB_URI", "mongodb://db")])
        .unwrap_err()
        .to_string();
    assert!(says.starts_with("JWT_SECRET "), "{says}");
    assert!(read(&[("MONGODB_URI", "mongodb://db"), ("JWT_SECRET", key)]).is_ok());
}

#[test]
fn a_path_is_taken_as_it_is_written() {
    for (raw, path) in [
        ("/vol", "/vol"),
        (" /vol/my data ", "/vol/my data"),
        ("../x~", "../x~"),
        ("данные", "данные"),
    ] {
        let config = read(&[("DATA_DIR", raw)]).unwrap();
        assert_eq!(config.data_dir, PathBuf::from(path));
    }
}

#[test]
fn secrets_are_not_printed() {
    let config = read(&[
        ("MONGODB_URI", "mongodb://ana:hunter2@db"),
        ("JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2"),
    ]);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_example_file_names_every_setting_with_its_default() {
    let example = include_str!("../../.env.example");
    for name in [
        "BIND_ADDR=127.0.0.1:3000",
        "PUBLIC_URL=http://127.0.0.1:3000",
        "DATA_DIR=data",
        "MONGODB_URI=",
        "STARTUP_WAIT=30",
        "JWT_SECRET=",
        "JWT_SECRET_PREVIOUS=",
        "SESSION_DAYS=30",
        "SIGNUP=open",
        "SMTP_URL=",
        "SMTP_FROM=",
        "TRUSTED_PROXIES=",
        "STREAMS_PER_USER=32",
        "REQUESTS_PER_USER=128",
        "STREAM_THREADS=",
        "RATE_LIMITS=on",
        "METRICS_ADDR=",
        "RUST_LOG=info",
    ] {
        assert!(example.contains(&format!("\n#{name}")), "{name}");
    }
}
