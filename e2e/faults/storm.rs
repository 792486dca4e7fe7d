//! Phones that enrol while the API server answers errors and loses replies.

use std::time::Duration;

use capf::api::{CertificateOperation, Phase};
use capf::phone::Proof;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use crate::product::digits;

use super::invariants::{Violation, quiet};
use super::phones::{by_null, by_string};
use super::random::Random;
use super::script::{About, Script, Weather};
use super::site::{SETTLES, Site};

/// A storm to be made.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// How long errors are answered and replies lost.
    pub lasts: Duration,
    /// Phones that are applied in the course of it, every other one By Null String.
    pub phones: usize,
    /// Of 100 calls, those answered with an error, and those whose replies are lost.
    pub weather: (u64, u64),
    /// What decides which.
    pub seed: u64,
    /// How long nothing may be written afterwards.
    pub quiet: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// Calls that were answered with an error, and calls whose replies were lost.
    pub struck: usize,
    /// All calls.
    pub calls: usize,
    /// What does not hold.
    pub found: Vec<String>,
}

impl Storm {
    /// Makes it: all phones must enrol, and all invariants hold.
    pub async fn rage(&self, site: &Site) -> Aftermath {
        let mut random = Random::new(self.seed);
        for proxy in &site.proxies {
            proxy.forget();
            proxy.play(Script::weather(Weather::new(self.weather.0, self.weather.1, random.next())));
        }
        let ends = Instant::now() + self.lasts;
        let calling = futures::future::join_all((0..self.phones).map(|number| self.phone(site, number, ends)));
        let calms = async {
            tokio::time::sleep_until(ends).await;
            site.proxies.iter().for_each(|proxy| proxy.play(Script::quiet()));
        };
        let (enrolled, ()) = tokio::join!(calling, calms);
        let mut aftermath = Aftermath::default();
        for call in site.proxies.iter().flat_map(super::proxy::ApiProxy::calls) {
            aftermath.calls += 1;
            aftermath.struck += usize::from(call.fault.is_some());
        }
        aftermath.found.extend(enrolled.into_iter().filter_map(Result::err));
        match site.settled("").await {
            Ok(versions) => aftermath.found.extend(texts(self.stays_quiet(site, versions).await)),
            Err(unsettled) => aftermath.found.extend(texts(unsettled)),
        }
        aftermath.found.extend(texts(site.violations()));
        aftermath.found.extend(texts(site.leaks()));
        let operations = site.product.api::<CertificateOperation>().list(&ListParams::default()).await.unwrap().items;
        if operations.len() != self.phones {
            aftermath.found.push(format!("{} operations of {} phones", operations.len(), self.phones));
        }
        aftermath
    }

    /// One phone: applied at its turn, it calls until it has its certificate, in the storm or soon after.
    async fn phone(&self, site: &Site, number: usize, ends: Instant) -> Result<(), String> {
        let device = format!("SEP{:012X}", 0xABC_0000 + number);
        let share = u32::try_from(number).unwrap_or(0) * self.lasts / u32::try_from(self.phones).unwrap_or(1);
        sleep(share).await;
        let by_string_here = number % 2 == 1;
        site.apply(&device, &if by_string_here { by_string() } else { by_null() }).await;
        let operation = site.pending(&device).await;
        let proof = if by_string_here { digits(&site.digits(&operation).await) } else { Proof::NullString };
        let over = site.calls_until_over(&device, proof, ends + SETTLES).await?;
        match over.phase() {
            Phase::Successful => Ok(()),
            _ => Err(format!("{device}: {:?}", over.status)),
        }
    }

    /// Nothing is written, nor tried to be, but Leases.
    async fn stays_quiet(&self, site: &Site, before: super::site::Versions) -> Vec<Violation> {
        site.proxies.iter().for_each(super::proxy::ApiProxy::forget);
        sleep(self.quiet).await;
        let mut found = quiet(&before, &site.versions("").await);
        for call in site.proxies.iter().flat_map(super::proxy::ApiProxy::calls) {
            if !matches!(call.request.about, About::Nothing | About::Lease) {
                let seen = format!("{:?}", call.status);
                found.push(Violation::new(super::invariants::Invariant::Quiet, call.request.to_string(), seen));
            }
        }
        found
    }
}

fn texts(violations: Vec<Violation>) -> impl Iterator<Item = String> {
    violations.into_iter().map(|violation| violation.to_string())
}
