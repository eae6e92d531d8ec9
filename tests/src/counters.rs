//! What culvert counted, and the law of conservation.

use serde_json::Value;

/// Recomputes the law from a summary's own numbers. `Err` says what is missing or does not add up.
///
/// # Errors
/// A sentence with both sides.
pub fn conserved(summary: &Value) -> Result<(), String> {
    let number = |key: &str| {
        summary.get(key).and_then(Value::as_u64).ok_or_else(|| format!("counters have no number {key:?}"))
    };
    let came = number("received")? + number("originated")?;
    let went = number("transmitted")? + number("kernel")? + number("consumed")? + dropped(summary);
    if came != went {
        return Err(format!("{came} packets came or were originated, {went} are accounted for: {summary}"));
    }
    match summary.get("unaccounted").and_then(Value::as_i64) {
        Some(0) => Ok(()),
        other => Err(format!("unaccounted is {other:?}, 0 expected")),
    }
}

/// The sum over all drop reasons.
pub fn dropped(summary: &Value) -> u64 {
    let reasons = summary.get("dropped").and_then(Value::as_object);
    reasons.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}

/// Compares `found` with `expected` and appends every difference, by its path. `"*"` stands for any value; in `dropped`
/// reasons that counted nothing are as good as absent.
pub fn compare(path: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    match (expected, found) {
        (Value::String(any), _) if any == "*" => {}
        (Value::Object(expected), Value::Object(found)) => {
            let sparse = path.ends_with("dropped");
            let zero = Value::from(0);
            for (key, value) in expected {
                match found.get(key) {
                    Some(other) => compare(&format!("{path}.{key}"), value, other, differences),
                    None if sparse && (*value == zero || *value == "*") => {}
                    None => differences.push(format!("{path}.{key}: {value} expected, nothing found")),
                }
            }
            for (key, value) in found {
                let named = path.contains("tunnels.") && key == "name";
                let silent = named || (sparse && *value == zero);
                if !(silent || expected.contains_key(key)) {
                    differences.push(format!("{path}.{key}: nothing expected, {value} found"));
                }
            }
        }
        _ if expected == found => {}
        _ => differences.push(format!("{path}: {expected} expected, {found} found")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn law_holds_only_where_every_packet_is_accounted_for() {
        let mut summary = json!({"received": 5, "originated": 1, "transmitted": 3, "kernel": 1, "consumed": 1,
            "dropped": {"ttl": 1}, "unaccounted": 0});
        assert_eq!(conserved(&summary), Ok(()));
        summary["transmitted"] = json!(2);
        assert!(conserved(&summary).unwrap_err().starts_with("6 packets came"));
    }

    #[test]
    fn comparison_names_the_path_and_skips_wildcards() {
        let mut differences = Vec::new();
        let expected = json!({"tunnels": {"t": {"mtu": "*", "rx_packets": 1}}, "dropped": {}});
        let found = json!({"tunnels": {"t": {"mtu": 7, "rx_packets": 2}}, "dropped": {"ttl": 0}});
        compare("counters", &expected, &found, &mut differences);
        assert_eq!(differences, ["counters.tunnels.t.rx_packets: 1 expected, 2 found"]);
    }
}
