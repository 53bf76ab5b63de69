//! What a rule may say besides groups, models and masks: issuers, claims, certificates, countries by claim, times, limits.

use super::super::errors::Problem;
use super::super::raw;
use super::super::reader::NamedStrings;
use super::super::report::{At, Report};
use super::{bounded, claim_path, line_of_text, report_repeats, word};
use bailiwick_policy::{
    CertificateName, ClaimCondition, ClaimedCountry, Country, Name, Principal, RegionTable, RuleLimits,
    Schedule, Weekday,
};

/// The largest count that a limit may have.
const MOST: u64 = 1_000_000_000;

/// Whom a rule may trust: the issuers of this file and, where certificates are identities, those.
pub(super) fn issuer(issuer: &At<String>, raw: &raw::Config, report: &Report<'_>) -> Option<String> {
    let urls = raw.issuers.iter().filter_map(|issuer| issuer.url.as_ref()).map(|url| url.value.as_str());
    let clients = raw.proxy.as_ref().and_then(|proxy| proxy.clients.as_ref());
    let identify = clients.and_then(|clients| clients.identify.as_ref()).is_some_and(|flag| flag.value);
    let known: Vec<_> = urls.chain(identify.then_some(Principal::BY_CERTIFICATE)).collect();
    if known.contains(&issuer.value.as_str()) {
        return Some(issuer.value.clone());
    }
    let message = "there is no [[issuer]] with this url";
    report.unknown(&issuer.place, Problem::UnknownName, &issuer.value, message, known.iter().copied());
    None
}

/// Each claim with the values that suffice.
pub(super) fn claims(raw: &NamedStrings, report: &Report<'_>) -> Vec<ClaimCondition> {
    let condition = |(claim, values): &(At<String>, At<Vec<At<String>>>)| {
        let claim = claim_path(claim, report)?.to_owned();
        report_repeats(&values.value, report);
        let values = values.value.iter().filter_map(|value| line_of_text(value, report));
        Some(ClaimCondition { claim, values: values.map(str::to_owned).collect() })
    };
    raw.iter().filter_map(condition).collect()
}

/// Names in client certificates.
pub(super) fn certificates(
    names: &At<Vec<At<String>>>,
    raw: &raw::Config,
    report: &Report<'_>,
) -> Vec<CertificateName> {
    if raw.proxy.as_ref().is_some_and(|proxy| proxy.clients.is_none()) {
        let message = "no client certificate is asked for, so that this rule matches nobody";
        report.error(&names.place, Problem::Conflict, message, "add [proxy.clients] with authorities");
    }
    report_repeats(&names.value, report);
    let name = |name: &At<String>| {
        let text = line_of_text(name, report)?;
        let stem = text.strip_suffix("/*").unwrap_or(text);
        if stem.contains('*') || stem.is_empty() || stem.ends_with(':') || stem.ends_with(":/") {
            let cure = "write a name, such as \"batch.example.eu\", or all that begin alike: \"spiffe://example.eu/ml/*\"";
            report.error(&name.place, Problem::Invalid, "not a certificate's name", cure);
            return None;
        }
        Some(CertificateName::new(text))
    };
    names.value.iter().filter_map(name).collect()
}

/// The claim that says where the caller is, with the countries of the rule's regions.
pub(super) fn country(
    rule: &raw::Access,
    from: Option<&[Name]>,
    regions: &RegionTable,
    report: &Report<'_>,
) -> Option<ClaimedCountry> {
    let written = rule.from_claim.as_ref()?;
    let claim = claim_path(written, report)?.to_owned();
    let Some(from) = from else {
        let message = "there is no from, so that the claim decides nothing";
        report.error(&written.place, Problem::Conflict, message, "add from = [\"…\"], or take this out");
        return None;
    };
    let of = |name: &Name| regions.get(name).map(|region| region.countries.as_slice()).unwrap_or_default();
    let countries: Vec<Country> = from.iter().flat_map(of).copied().collect();
    if countries.is_empty() && !from.is_empty() {
        let message = "a claim names a country, and the regions of from have none";
        report.error(&written.place, Problem::Conflict, message, "add countries to one of them");
        return None;
    }
    Some(ClaimedCountry { claim, countries })
}

/// Days and hours.
pub(super) fn schedule(when: &raw::When, report: &Report<'_>) -> Option<Schedule> {
    let mut days = Vec::new();
    if let Some(list) = &when.days {
        report_repeats(&list.value, report);
        days.extend(list.value.iter().filter_map(|day| word(day, "a day", &Weekday::WORDS, report)));
    }
    let (begin, end) = match &when.hours {
        None => (0, 24 * 60),
        Some(hours) => {
            let Some((begin, end)) = hours.value.split_once('-') else {
                return invalid(hours, "not hours", "write \"08:00-18:00\"", report);
            };
            match (clock(begin), clock(end)) {
                (Some(begin), Some(end)) if begin != end && begin < 24 * 60 => (begin, end),
                _ => {
                    return invalid(
                        hours,
                        "not hours",
                        "write \"08:00-18:00\"; 24:00 is the end of a day",
                        report,
                    );
                }
            }
        }
    };
    let offset = match &when.offset {
        None => 0,
        Some(offset) => match shift(&offset.value) {
            Some(seconds) => seconds,
            None => {
                return invalid(
                    offset,
                    "not an offset from UTC",
                    "write \"+01:00\", \"-05:00\" or \"UTC\"",
                    report,
                );
            }
        },
    };
    if when.days.is_none() && when.hours.is_none() {
        let cure = "add days = [\"mon\"] or hours = \"08:00-18:00\"";
        report.error(&when.place, Problem::Empty, "neither days nor hours", cure);
        return None;
    }
    Schedule::new(&days, begin, end, offset).ok()
}

fn invalid<T>(text: &At<String>, message: &str, cure: &str, report: &Report<'_>) -> Option<T> {
    report.error(&text.place, Problem::Invalid, message, cure);
    None
}

/// `HH:MM` in minutes after midnight, 24:00 included.
fn clock(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let two = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (minutes < 60 && (hours < 24 || (hours, minutes) == (24, 0))).then_some(hours * 60 + minutes)
}

/// `UTC`, `Z`, `+HH:MM` or `-HH:MM` in seconds.
fn shift(text: &str) -> Option<i32> {
    if matches!(text, "UTC" | "Z") {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    clock(rest).filter(|minutes| *minutes <= 14 * 60).map(|minutes| sign * i32::from(minutes) * 60)
}

/// What each caller may use.
pub(super) fn limits(raw: &raw::Limits, report: &Report<'_>) -> RuleLimits {
    let count = |number: &Option<At<i128>>, unit: &str| {
        number.as_ref().and_then(|number| bounded(number, 1, MOST, unit, report))
    };
    RuleLimits {
        requests_per_minute: count(&raw.requests_per_minute, "requests"),
        streams: count(&raw.streams, "streams"),
        tokens_per_minute: count(&raw.tokens_per_minute, "tokens"),
        tokens_per_day: count(&raw.tokens_per_day, "tokens"),
        max_body: count(&raw.max_body, "bytes"),
        max_tokens: count(&raw.max_tokens, "tokens"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_what_is_written() {
        for (text, minutes) in [
            ("00:00", Some(0)),
            ("08:30", Some(510)),
            ("24:00", Some(1440)),
            ("24:01", None),
            ("8:30", None),
            ("08:60", None),
            ("+8:30", None),
            ("0830", None),
        ] {
            assert_eq!(clock(text), minutes, "{text}");
        }
        for (text, seconds) in [
            ("UTC", Some(0)),
            ("Z", Some(0)),
            ("+01:00", Some(3600)),
            ("-05:30", Some(-19_800)),
            ("+14:00", Some(50_400)),
            ("+14:01", None),
            ("01:00", None),
            ("CET", None),
            ("", None),
        ] {
            assert_eq!(shift(text), seconds, "{text}");
        }
    }
}
