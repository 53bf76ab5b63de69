//! Many streams at once, as a model writes them; and a single large one, as fast as it is read.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::load::{self, Target};
use crate::upstream::Pace;
use crate::{Measured, seat};

/// How many.
const STREAMS: u32 = 1000;
/// They begin within it, one after the other.
const ARRIVALS: Duration = Duration::from_secs(1);
/// Twenty pieces a second, for five seconds.
const PACE: Pace = Pace { first: 100, every: 50, pieces: 100, bytes: 24 };
/// When all are under way.
const MIDDLE: Duration = Duration::from_secs(3);

/// Some 50 MB, as fast as it is read.
const LARGE: Pace = Pace { first: 0, every: 0, pieces: 12_200, bytes: 4096 };

/// What was seen of them.
pub(crate) struct Seen {
    /// until the first piece: half of the streams waited no longer
    pub(crate) first_p50: Duration,
    /// 99 of 100 did not
    pub(crate) first_p99: Duration,
    /// the longest wait between two pieces of any stream
    pub(crate) longest_wait: Duration,
    /// of the process, MB, with all streams under way
    pub(crate) memory: Option<f64>,
}

/// Lets this process have as many sockets as the system allows it.
pub(crate) fn allow_many_sockets() -> Measured<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// Holds the streams, each to its end.
///
/// # Errors
/// When one of them is refused or lacks a piece.
pub(crate) fn hold(target: &Target, process: Option<u32>) -> Measured<Seen> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut connected = Vec::new();
        for _ in 0..STREAMS {
            connected.push(load::connect(target).await?);
        }
        let begin = tokio::time::Instant::now();
        let mut streams = JoinSet::new();
        for (number, mut sender) in (0..).zip(connected) {
            let request = load::asking(target, prompt(PACE))?;
            streams.spawn(async move {
                sleep_until(begin + ARRIVALS * number / STREAMS).await;
                let asked = Instant::now();
                let answer = sender.send_request(request).await?;
                read(answer, asked, PACE).await
            });
        }
        sleep_until(begin + MIDDLE).await;
        let memory = process.map(seat::resident_megabytes).transpose()?;
        let (mut firsts, mut longest_wait) = (Vec::new(), Duration::ZERO);
        while let Some(ended) = streams.join_next().await {
            let (first, longest) = ended??;
            firsts.push(first);
            longest_wait = longest_wait.max(longest);
        }
        firsts.sort_unstable();
        let at = |share: usize| firsts.get(firsts.len() * share / 100).copied().ok_or("no stream");
        Ok(Seen { first_p50: at(50)?, first_p99: at(99)?, longest_wait, memory })
    })
}

/// Reads one large answer; returns by how many MB the process grew meanwhile, at most.
pub(crate) fn large(target: &Target, process: u32) -> Measured<f64> {
    let before = seat::resident_megabytes(process)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut sender = load::connect(target).await?;
        let answer = sender.send_request(load::asking(target, prompt(LARGE))?).await?;
        let (mut body, mut bytes, mut most) = (answer.into_body(), 0, before);
        let mut looked = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
            if bytes - looked > 1_000_000 {
                looked = bytes;
                most = seat::resident_megabytes(process)?.max(most);
            }
        }
        if bytes < 50_000_000 {
            return Err(format!("the answer ended after {bytes} bytes").into());
        }
        Ok(most - before)
    })
}

fn prompt(pace: Pace) -> Bytes {
    let pace = serde_json::to_string(&pace).unwrap_or_default();
    let body = serde_json::json!({ "model": "bench", "stream": true, "messages": [{ "role": "user", "content": pace }] });
    body.to_string().into()
}

/// When the first piece came, and the longest wait after it.
async fn read(
    answer: hyper::Response<hyper::body::Incoming>,
    asked: Instant,
    pace: Pace,
) -> Measured<(Duration, Duration)> {
    const BEGIN: &[u8] = b"data: {";
    let (status, mut body) = (answer.status(), answer.into_body());
    let (mut first, mut last, mut longest, mut pieces) = (None, asked, Duration::ZERO, 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let new = data.windows(BEGIN.len()).filter(|window| *window == BEGIN).count();
        if new == 0 {
            continue;
        }
        pieces += new;
        let now = Instant::now();
        match first {
            None => first = Some(now - asked),
            Some(_) => longest = longest.max(now - last),
        }
        last = now;
    }
    match first {
        Some(first) if pieces >= pace.pieces as usize => Ok((first, longest)),
        _ => Err(format!("{status}: a stream of {pieces} pieces").into()),
    }
}
