//! Times as people write them: how long ago, or when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::{format_description, time};

/// Reads `15m`, `2h`, `3d` ago, `2026-06-01` (UTC) or RFC 3339.
///
/// # Errors
/// What can be written instead.
pub(super) fn since(text: &str) -> Result<SystemTime, String> {
    let ago = ago(text).and_then(|ago| SystemTime::now().checked_sub(ago));
    let moment = || OffsetDateTime::parse(text, &Rfc3339).ok();
    let day = || {
        let date = time::Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
        Some(date.with_time(time!(0:00)).assume_utc())
    };
    ago.or_else(|| moment().or_else(day).map(SystemTime::from))
        .filter(|time| *time >= UNIX_EPOCH)
        .ok_or_else(|| "write 30s, 15m, 2h or 3d (ago), 2026-06-01 or 2026-06-01T08:00:00Z".to_owned())
}

fn ago(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// `2026-06-01 08:00:00`, in UTC, of milliseconds since 1970.
pub(super) fn moment(milliseconds: u64) -> String {
    let moment =
        i64::try_from(milliseconds / 1000).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    moment.and_then(|moment| moment.format(format).ok()).unwrap_or_else(|| "?".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let seconds = |text: &str| since(text).unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for (text, expected) in [("30s", 30), ("15m", 900), ("2h", 7200), ("3d", 259_200)] {
            assert!((now - expected).abs_diff(seconds(text)) <= 2, "{text}");
        }
        assert_eq!(seconds("2026-06-01"), 1_780_272_000);
        assert_eq!(seconds("2026-06-01T02:00:00+02:00"), 1_780_272_000);
        for text in [
            "",
            "h",
            "3w",
            "-1h",
            "1.5h",
            "yesterday",
            "99999999999999999999d",
            "99999999999999999d",
            "1960-01-01",
            "ü",
        ] {
            assert!(since(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_moment_is_shown_in_utc() {
        assert_eq!(moment(1_780_272_061_999), "2026-06-01 00:01:01");
        assert_eq!(moment(u64::MAX), "?");
    }
}
