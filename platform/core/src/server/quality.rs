//! What this computer has seen of each server: used for ranking only, so a lost or forged record costs speed, not safety.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Servers remembered; the longest unseen is forgotten first.
const MAX_RECORDS: usize = 1_024;
/// How much one new observation counts.
const SHARE: f64 = 0.3;

/// Past experience by server id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quality {
    records: BTreeMap<String, Record>,
}

/// Past experience with one server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Moving average of success, 0 to 1.
    pub success: f64,
    /// Moving average of the time to connect, in milliseconds; 0 before the first success.
    pub connect_ms: f64,
    /// Shortest round trip of the last connection, in milliseconds, when one was measured. Shown, never ranked by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<u32>,
    /// Failures in a row.
    pub failures: u32,
    /// Wall clock of the last failure, seconds since 1970.
    pub last_failure_unix_s: Option<i64>,
    /// Wall clock of the last observation, seconds since 1970.
    pub last_seen_unix_s: i64,
}

impl Quality {
    /// A connection was made in `connect_ms`.
    pub fn succeeded(&mut self, server: &str, connect_ms: u32, now_unix_s: i64) {
        let record = self.record(server, now_unix_s);
        let connect_ms = f64::from(connect_ms);
        record.connect_ms = if record.connect_ms > 0.0 { average(record.connect_ms, connect_ms) } else { connect_ms };
        record.success = average(record.success, 1.0);
        record.failures = 0;
    }

    /// A probe through the tunnel to it was answered after this long.
    pub fn answered_after(&mut self, server: &str, round_trip_ms: u32, now_unix_s: i64) {
        self.record(server, now_unix_s).round_trip_ms = Some(round_trip_ms);
    }

    /// A connection failed.
    pub fn failed(&mut self, server: &str, now_unix_s: i64) {
        let record = self.record(server, now_unix_s);
        record.success = average(record.success, 0.0);
        record.failures = record.failures.saturating_add(1);
        record.last_failure_unix_s = Some(now_unix_s);
    }

    /// The record of a server.
    #[must_use]
    pub fn get(&self, server: &str) -> Option<&Record> {
        self.records.get(server)
    }

    /// Factor for the rank of a server, above 0 and at most 1. Unknown servers get the benefit of the doubt.
    #[must_use]
    pub fn factor(&self, server: &str, now_unix_s: i64) -> f64 {
        let Some(record) = self.get(server) else { return 1.0 };
        let (success, connect_ms) = (bounded(record.success, 1.0, 1.0), bounded(record.connect_ms, 60_000.0, 0.0));
        // Failures count for an hour, and the wall clock may jump: both directions are bounded.
        let recent = record.last_failure_unix_s.is_some_and(|then| now_unix_s.saturating_sub(then).unsigned_abs() < 3_600);
        let failures = if recent { record.failures.min(6) } else { 0 };
        success.max(0.1) / (1.0 + connect_ms / 2_000.0) * 0.5_f64.powi(i32::try_from(failures).unwrap_or(6))
    }

    fn record(&mut self, server: &str, now_unix_s: i64) -> &mut Record {
        if !self.records.contains_key(server) && self.records.len() >= MAX_RECORDS {
            let oldest = self.records.iter().min_by_key(|(_, record)| record.last_seen_unix_s).map(|(id, _)| id.clone());
            self.records.retain(|id, _| Some(id) != oldest.as_ref());
        }
        let fresh = Record {
            success: 1.0,
            connect_ms: 0.0,
            round_trip_ms: None,
            failures: 0,
            last_failure_unix_s: None,
            last_seen_unix_s: now_unix_s,
        };
        let record = self.records.entry(server.to_owned()).or_insert(fresh);
        record.last_seen_unix_s = now_unix_s;
        record
    }
}

fn average(old: f64, new: f64) -> f64 {
    old * (1.0 - SHARE) + new * SHARE
}

/// A stored number may be anything.
fn bounded(value: f64, max: f64, otherwise: f64) -> f64 {
    if value.is_finite() { value.clamp(0.0, max) } else { otherwise }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_a_round_trip_is_read_and_an_older_version_reads_one_with_it() {
        let old = r#"{"vpn05":{"success":1.0,"connect_ms":0.0,"failures":0,"last_failure_unix_s":null,"last_seen_unix_s":7}}"#;
        let mut quality: Quality = serde_json::from_str(old).unwrap();
        assert_eq!(quality.get("vpn05").unwrap().round_trip_ms, None);
        assert_eq!(serde_json::to_string(&quality).unwrap(), old);
        quality.answered_after("vpn05", 23, 8);
        let text = serde_json::to_string(&quality).unwrap();
        assert_eq!(serde_json::from_str::<Quality>(&text).unwrap(), quality);
        // Unknown fields are no error to a reader of that kind.
        #[derive(Deserialize)]
        struct Older {
            success: f64,
        }
        let older: BTreeMap<String, Older> = serde_json::from_str(&text).unwrap();
        assert!((older["vpn05"].success - 1.0).abs() < f64::EPSILON);
        assert_eq!(quality.get("vpn05").unwrap().round_trip_ms, Some(23));
    }
}
