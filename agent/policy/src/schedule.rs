//! When a rule holds: days and hours at a fixed offset from UTC.
//!
//! An offset and no time zone: a zone's rules change by decree and would have to be read from the host, and this
//! crate reads nothing. Where clocks are put forward, a schedule at a fixed offset is an hour late in summer.

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weekday {
    /// Monday, the first (ISO 8601).
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

impl Weekday {
    /// Every day with the word for it in a config, Monday first.
    pub const WORDS: [(&'static str, Self); 7] = [
        ("mon", Self::Monday),
        ("tue", Self::Tuesday),
        ("wed", Self::Wednesday),
        ("thu", Self::Thursday),
        ("fri", Self::Friday),
        ("sat", Self::Saturday),
        ("sun", Self::Sunday),
    ];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Days and hours. Hours that end before they begin go past midnight; they belong to the day on which they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    days: u8,
    begin: u16,
    end: u16,
    offset: i32,
}

/// Hours or an offset that no clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hours are 00:00 to 24:00 and differ, an offset is at most 14:00")]
pub struct InvalidSchedule;

impl Schedule {
    /// On `days` (none means every day), from `begin` until before `end` (minutes after midnight), at `offset` seconds
    /// east of UTC.
    ///
    /// # Errors
    /// [`InvalidSchedule`]
    pub fn new(days: &[Weekday], begin: u16, end: u16, offset: i32) -> Result<Self, InvalidSchedule> {
        if begin >= DAY || end > DAY || begin == end || offset.unsigned_abs() > 14 * 3600 {
            return Err(InvalidSchedule);
        }
        let every = Weekday::WORDS.map(|(_, day)| day);
        let days = if days.is_empty() { &every } else { days };
        Ok(Self { days: days.iter().fold(0, |set, day| set | day.bit()), begin, end, offset })
    }

    /// Whether it holds at `now`, seconds after the epoch.
    #[must_use]
    pub fn holds(&self, now: u64) -> bool {
        let local = i64::try_from(now).unwrap_or(i64::MAX).saturating_add(i64::from(self.offset));
        let (day, minute) = (local.div_euclid(86_400), local.rem_euclid(86_400) / 60);
        // The epoch was a Thursday.
        let on = |day: i64| self.days & (1 << (day + 3).rem_euclid(7)) != 0;
        let (begin, end) = (i64::from(self.begin), i64::from(self.end));
        if begin < end {
            on(day) && (begin..end).contains(&minute)
        } else {
            (on(day) && minute >= begin) || (on(day - 1) && minute < end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 24 August 2026, 00:00 UTC.
    const MONDAY: u64 = 1_787_529_600;
    const HOUR: u64 = 3600;

    #[test]
    fn a_schedule_holds_on_its_days_in_its_hours() {
        use Weekday::{Friday, Monday, Sunday};
        let office = Schedule::new(&[Monday], 8 * 60, 18 * 60, 0).unwrap();
        let berlin = Schedule::new(&[Monday], 8 * 60, 18 * 60, 7200).unwrap();
        let night = Schedule::new(&[Friday, Sunday], 22 * 60, 6 * 60, 0).unwrap();
        let always = Schedule::new(&[], 0, DAY, -7200).unwrap();
        for (schedule, hours, expected, why) in [
            (office, 8, true, "as it begins"),
            (office, 7, false, "before"),
            (office, 17, true, "in its last hour"),
            (office, 18, false, "as it ends"),
            (office, 32, false, "on Tuesday"),
            (berlin, 6, true, "eight o'clock there"),
            (berlin, 16, false, "six o'clock there"),
            (night, 5, true, "Sunday's night goes on to Monday"),
            (night, 6, false, "until six"),
            (night, 23, false, "Monday has none"),
            (night, 4 * 24 + 22, true, "Friday's begins"),
            (night, 5 * 24 + 5, true, "and ends on Saturday"),
            (night, 5 * 24 + 22, false, "Saturday has none of its own"),
            (always, 0, true, "no days means every day"),
        ] {
            assert_eq!(schedule.holds(MONDAY + hours * HOUR), expected, "{why}");
        }
        assert!(
            !office.holds(MONDAY + 8 * HOUR - 1) && office.holds(MONDAY + 18 * HOUR - 1),
            "to the second"
        );
    }

    #[test]
    fn what_no_clock_shows_is_no_schedule() {
        for (begin, end, offset) in [(DAY, 60, 0), (0, DAY + 1, 0), (60, 60, 0), (0, 60, 14 * 3600 + 1)] {
            assert_eq!(
                Schedule::new(&[], begin, end, offset),
                Err(InvalidSchedule),
                "{begin} {end} {offset}"
            );
        }
    }
}
