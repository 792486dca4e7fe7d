//! Phones that enrol one after the other for as long as a soak lasts.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capf::api::{Phase, Phone, Reason};
use capf::phone::Proof;
use futures::stream::{FuturesUnordered, StreamExt as _};
use futures::{FutureExt as _, TryFutureExt as _};
use kube::api::DeleteParams;
use tokio::time::{Instant, sleep};

use crate::faults::phones::{by_null, by_string, wrong};
use crate::faults::site::Site;
use crate::harness::eventually;
use crate::product::digits;

/// How long a phone may take, mishaps included: longer than any of them, and what follows it.
const PATIENCE: Duration = Duration::from_secs(180);
/// Phones that enrol at one time, at the most: in a mishap they queue up.
const AT_ONCE: usize = 64;

/// How a fleet enrols.
pub struct Fleet<'a> {
    site: &'a Site,
    pause: Duration,
    population: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Enrolled {
    pub successful: usize,
    pub locked_out: usize,
    /// What should not have been.
    pub found: Vec<String>,
}

impl<'a> Fleet<'a> {
    pub fn new(site: &'a Site, rate: f64, population: usize) -> Self {
        Self { site, pause: Duration::from_secs_f64(1.0 / rate), population }
    }

    /// Enrols until told to stop, then lets those that have begun come to their end.
    pub async fn run(&self, goes_on: &AtomicBool) -> Enrolled {
        let mut enrolled = Enrolled::default();
        let (mut calling, mut there) = (FuturesUnordered::new(), VecDeque::new());
        let mut number = 0;
        while goes_on.load(Ordering::SeqCst) || !calling.is_empty() {
            if goes_on.load(Ordering::SeqCst) && calling.len() < AT_ONCE {
                number += 1;
                calling.push(AssertUnwindSafe(self.phone(number)).catch_unwind().map_err(said));
            }
            let pause = sleep(self.pause);
            tokio::pin!(pause);
            loop {
                let ended = tokio::select! {
                    () = &mut pause => break,
                    Some(ended) = calling.next() => ended,
                };
                match ended.and_then(|ended| ended) {
                    Ok((device, ending)) => {
                        match ending {
                            Ending::Successful => enrolled.successful += 1,
                            Ending::LockedOut => enrolled.locked_out += 1,
                        }
                        there.push_back(device);
                    }
                    Err(why) => enrolled.found.push(why),
                }
            }
            while there.len() > self.population {
                let oldest = there.pop_front().unwrap_or_default();
                self.delete(&oldest).await;
            }
        }
        enrolled
    }

    /// One phone, to its end.
    async fn phone(&self, number: usize) -> Result<(String, Ending), String> {
        let device = format!("SEP{number:012X}");
        let settings = if number.is_multiple_of(2) { by_null() } else { by_string() };
        self.site.apply(&device, &settings).await;
        let operation = self.site.pending(&device).await;
        let (proof, wanted) = match number % 10 {
            0 | 2 | 4 | 6 | 8 => (Proof::NullString, Ending::Successful),
            9 => (digits(&wrong(&self.site.digits(&operation).await)), Ending::LockedOut),
            _ => (digits(&self.site.digits(&operation).await), Ending::Successful),
        };
        let over = self.site.calls_until_over(&device, proof, Instant::now() + PATIENCE).await?;
        let reason = over.status.as_ref().and_then(|status| status.reason);
        match (over.phase(), reason) {
            (Phase::Successful, None) if wanted == Ending::Successful => Ok((device, wanted)),
            (Phase::Failed, Some(Reason::LockedOut)) if wanted == Ending::LockedOut => Ok((device, wanted)),
            ended => Err(format!("{device} ended with {ended:?}")),
        }
    }

    async fn delete(&self, device: &str) {
        let (phones, name) = (self.site.product.api::<Phone>(), device.to_lowercase());
        let gone = eventually("the phone is deleted", PATIENCE, || async {
            match phones.delete(&name, &DeleteParams::default()).await {
                Err(error) if !matches!(&error, kube::Error::Api(status) if status.is_not_found()) => Err(error),
                _ => Ok(()),
            }
        });
        gone.await.unwrap();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Successful,
    LockedOut,
}

fn said(panic: Box<dyn std::any::Any + Send>) -> String {
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned())
}
