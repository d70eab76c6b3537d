//! The options of every log driver, with the words that Docker refuses wrong ones with.

use super::*;

fn map(text: &str) -> OptionMap {
    let pairs = text
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Texts of dockerd 28.5.2, less the words before them about the task.
const REFUSALS: &[(&str, &str, &str)] = &[
    (
        "nope",
        "",
        "error looking up logging plugin nope: plugin \"nope\" not found",
    ),
    (
        "json-file",
        "foo=bar",
        "unknown log opt 'foo' for json-file log driver",
    ),
    (
        "json-file",
        "max-size=abc",
        "failed to initialize logging driver: invalid size: 'abc'",
    ),
    (
        "json-file",
        "max-size=0",
        "failed to initialize logging driver: max-size must be a positive number",
    ),
    (
        "json-file",
        "max-file=0",
        "failed to initialize logging driver: max-file cannot be less than 1",
    ),
    (
        "json-file",
        "max-file=-1",
        "failed to initialize logging driver: max-file cannot be less than 1",
    ),
    (
        "json-file",
        "max-file=x",
        "failed to initialize logging driver: strconv.Atoi: parsing \"x\": invalid syntax",
    ),
    (
        "json-file",
        "max-file=99999999999999999999",
        "failed to initialize logging driver: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
    ),
    (
        "json-file",
        "compress=x",
        "failed to initialize logging driver: strconv.ParseBool: parsing \"x\": invalid syntax",
    ),
    (
        "json-file",
        "compress=true",
        "failed to initialize logging driver: compress cannot be true when max-file is less than 2 or max-size is not set",
    ),
    (
        "json-file",
        "compress=true max-size=10m",
        "failed to initialize logging driver: compress cannot be true when max-file is less than 2 or max-size is not set",
    ),
    (
        "json-file",
        "mode=foo",
        "logger: logging mode not supported: foo",
    ),
    (
        "json-file",
        "max-buffer-size=1m",
        "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ),
    (
        "json-file",
        "mode=non-blocking max-buffer-size=zz",
        "error parsing option max-buffer-size: invalid size: 'zz'",
    ),
    (
        "json-file",
        "cache-disabled=zz",
        "invalid value for option cache-disabled: zz",
    ),
    (
        "local",
        "max-size=x",
        "failed to initialize logging driver: invalid value for max-size: x: invalid size: 'x'",
    ),
    (
        "local",
        "max-size=-1",
        "failed to initialize logging driver: invalid value for max-size: -1: invalid size: '-1'",
    ),
    (
        "local",
        "max-file=x",
        "failed to initialize logging driver: invalid value for max-file: x: strconv.Atoi: parsing \"x\": invalid syntax",
    ),
    (
        "local",
        "max-file=1",
        "failed to initialize logging driver: compression cannot be enabled when max file count is 1",
    ),
    (
        "local",
        "max-file=-1",
        "failed to initialize logging driver: max file count cannot be less than 0",
    ),
    (
        "local",
        "compress=x",
        "failed to initialize logging driver: error reading compress log option: strconv.ParseBool: parsing \"x\": invalid syntax",
    ),
    (
        "local",
        "foo=x",
        "unknown log opt 'foo' for log driver local",
    ),
    (
        "journald",
        "foo=x",
        "unknown log opt 'foo' for journald log driver",
    ),
    (
        "syslog",
        "foo=x",
        "unknown log opt 'foo' for syslog log driver",
    ),
    ("syslog", "syslog-address=x", "unsupported scheme: ''"),
    (
        "syslog",
        "syslog-address=http://x",
        "unsupported scheme: 'http'",
    ),
    ("syslog", "syslog-facility=x", "invalid syslog facility"),
    ("syslog", "syslog-facility=24", "invalid syslog facility"),
    ("syslog", "syslog-format=x", "Invalid syslog format"),
    (
        "syslog",
        "syslog-address=tcp://127.0.0.1:a:b",
        "parse \"tcp://127.0.0.1:a:b\": invalid port \":b\" after host",
    ),
    (
        "fluentd",
        "fluentd-address=http://x",
        "invalid fluentd-address (http://x): unsupported scheme: 'http'",
    ),
    (
        "fluentd",
        "fluentd-address=tcp://x/y",
        "invalid fluentd-address (tcp://x/y): should not contain a path element",
    ),
    (
        "fluentd",
        "fluentd-address=unix:///",
        "invalid fluentd-address (unix:///): path is empty",
    ),
    (
        "fluentd",
        "fluentd-address=tcp://x:99999",
        "invalid fluentd-address (tcp://x:99999): invalid port: strconv.ParseUint: parsing \"99999\": value out of range",
    ),
    ("fluentd", "fluentd-buffer-limit=x", "invalid size: 'x'"),
    (
        "fluentd",
        "fluentd-retry-wait=x",
        "time: invalid duration \"x\"",
    ),
    (
        "fluentd",
        "fluentd-max-retries=x",
        "strconv.ParseUint: parsing \"x\": invalid syntax",
    ),
    (
        "fluentd",
        "fluentd-max-retries=4294967295",
        "invalid fluentd-max-retries: value out of range",
    ),
    (
        "fluentd",
        "fluentd-async=x",
        "strconv.ParseBool: parsing \"x\": invalid syntax",
    ),
    (
        "fluentd",
        "fluentd-async-reconnect-interval=1ms",
        "invalid value for fluentd-async-reconnect-interval: value (\"1ms\") must be between 100ms and 10s",
    ),
    (
        "fluentd",
        "fluentd-async-reconnect-interval=x",
        "invalid value for fluentd-async-reconnect-interval: time: invalid duration \"x\"",
    ),
    (
        "fluentd",
        "fluentd-write-timeout=-1s",
        "invalid value for fluentd-write-timeout: value must be a duration that is non-negative",
    ),
    (
        "fluentd",
        "fluentd-write-timeout=x",
        "invalid value for fluentd-write-timeout: value must be a duration: time: invalid duration \"x\"",
    ),
    (
        "fluentd",
        "x=y",
        "unknown log opt 'x' for fluentd log driver",
    ),
    ("gelf", "", "gelf-address is a required parameter"),
    (
        "gelf",
        "gelf-address=x",
        "gelf: endpoint needs to be TCP or UDP",
    ),
    (
        "gelf",
        "gelf-address=udp://x",
        "gelf: please provide gelf-address as proto://host:port",
    ),
    (
        "gelf",
        "gelf-address=udp://h:1 gelf-compression-type=x",
        "unknown value \"x\" for log opt \"gelf-compression-type\" for gelf log driver",
    ),
    (
        "gelf",
        "gelf-address=udp://h:1 gelf-compression-level=12",
        "unknown value \"12\" for log opt \"gelf-compression-level\" for gelf log driver",
    ),
    (
        "gelf",
        "gelf-address=tcp://h:1 gelf-compression-level=1",
        "compression is only supported on UDP",
    ),
    (
        "gelf",
        "gelf-address=udp://h:1 gelf-tcp-max-reconnect=1",
        "\"gelf-tcp-max-reconnect\" is only valid for TCP",
    ),
    (
        "gelf",
        "gelf-address=tcp://h:1 gelf-tcp-max-reconnect=-1",
        "\"gelf-tcp-max-reconnect\" must be a positive integer",
    ),
    (
        "gelf",
        "gelf-address=tcp://h:1 foo=x",
        "unknown log opt \"foo\" for gelf log driver",
    ),
];

#[test]
fn refusals_are_dockers() {
    for (driver, options, expected) in REFUSALS {
        let refused = check(driver, &map(options))
            .map(drop)
            .map_err(|error| error.to_string());
        assert_eq!(refused, Err((*expected).to_owned()), "{driver} {options}");
    }
}

#[test]
fn files_are_bounded_when_nothing_is_said() {
    let files = |driver: &str, options: &str| {
        let limits = check(driver, &map(options)).expect("valid").files?;
        Some((limits.max_size, limits.max_file, limits.compress))
    };
    let table = [
        ("json-file", "", Some((20 << 20, 5, false))),
        ("json-file", "max-file=2", Some((20 << 20, 2, false))),
        ("json-file", "max-size=1k", Some((1000, 1, false))),
        (
            "json-file",
            "max-size=1.5M max-file=3 compress=1",
            Some((1_500_000, 3, true)),
        ),
        ("local", "", Some((20 << 20, 5, true))),
        (
            "local",
            "max-file=1 compress=false",
            Some((20 << 20, 1, false)),
        ),
        ("journald", "", Some((20 << 20, 5, true))),
        (
            "journald",
            "cache-max-size=2KB cache-max-file=2 cache-compress=false",
            Some((2000, 2, false)),
        ),
        ("journald", "cache-disabled=true", None),
        ("none", "whatever=1", None),
    ];
    for (driver, options, expected) in table {
        assert_eq!(files(driver, options), expected, "{driver} {options}");
    }
}

#[test]
fn addresses_and_modes_are_read() {
    let remote = |driver: &str, options: &str| check(driver, &map(options)).expect("valid");
    let Driver::Syslog(syslog) = remote("syslog", "syslog-address=tcp+tls://[::1] syslog-tls-skip-verify= syslog-facility=local3 syslog-format=rfc5424micro").driver else {
        panic!("another driver");
    };
    let tls = SyslogTls {
        skip_verify: true,
        ..SyslogTls::default()
    };
    let endpoint = Endpoint {
        host: "::1".to_owned(),
        port: 514,
    };
    assert_eq!(endpoint.to_string(), "[::1]:514");
    assert_eq!(syslog.target, SyslogTarget::Tls(endpoint, tls));
    assert_eq!(
        (syslog.facility, syslog.format),
        (19, SyslogFormat::Rfc5424Micro)
    );

    let settings = remote("fluentd", "fluentd-address=logs mode=non-blocking");
    assert_eq!(settings.buffer, Some(1_000_000));
    let Driver::Fluentd(fluentd) = settings.driver else {
        panic!("another driver");
    };
    let endpoint = Endpoint {
        host: "logs".to_owned(),
        port: 24224,
    };
    assert_eq!(fluentd.target, FluentdTarget::Tcp(endpoint));
    assert_eq!(
        remote("json-file", "mode=non-blocking max-buffer-size=4m").buffer,
        Some(4 << 20)
    );
    assert_eq!(remote("json-file", "mode=blocking").buffer, None);
}
