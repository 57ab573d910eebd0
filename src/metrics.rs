//! Metrics: `GET /metrics` at `METRICS_ADDR`, in Prometheus' text format.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The process's counters and gauges. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Whether other nodes' messages arrive at once: 1 while the change stream answers.
    pub change_stream_up: Gauge,
    /// Change streams that ended and were opened again.
    pub change_stream_restarts: Counter,
    /// How often the logs were read because the change stream was interrupted or stalled.
    pub log_sweeps: Counter,
    /// Events that were appended here.
    pub appends: Counter,
    /// Appends that had to be tried again after a failure.
    pub append_retries: Counter,
    /// Inserts that met a number which another node had taken.
    pub append_races_lost: Counter,
    /// Open streams.
    pub streams: Gauge,
}

impl Metrics {
    /// All of them as text.
    pub fn render(&self) -> String {
        let mut registry = Registry::with_prefix("parlor");
        let gauges = [
            (
                "change_stream_up",
                "1 while the change stream answers",
                &self.change_stream_up,
            ),
            ("streams", "Open streams", &self.streams),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let counters = [
            (
                "change_stream_restarts",
                "Change streams that ended and were opened again",
                &self.change_stream_restarts,
            ),
            (
                "log_sweeps",
                "Times the logs were read because the change stream was interrupted or stalled",
                &self.log_sweeps,
            ),
            ("appends", "Events appended here", &self.appends),
            (
                "append_retries",
                "Appends tried again after a failure",
                &self.append_retries,
            ),
            (
                "append_races_lost",
                "Inserts that met a number another node had taken",
                &self.append_races_lost,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
