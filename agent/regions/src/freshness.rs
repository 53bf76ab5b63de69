//! How old a dataset is.

use time::{Date, OffsetDateTime};

/// The day, UTC.
#[must_use]
pub fn today() -> Date {
    OffsetDateTime::now_utc().date()
}

/// How many days before `today` it was; 0 for what lies ahead.
#[must_use]
pub fn age_in_days(date: Date, today: Date) -> u32 {
    u32::try_from((today - date).whole_days()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn ages_are_counted_in_days_and_never_below_zero() {
        for (of, age) in [
            (date!(2026 - 06 - 30), 1),
            (date!(2026 - 07 - 01), 0),
            (date!(2026 - 07 - 02), 0),
            (date!(2025 - 07 - 01), 365),
        ] {
            assert_eq!(age_in_days(of, date!(2026 - 07 - 01)), age, "{of}");
        }
    }
}
