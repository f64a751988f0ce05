//! How many retries the requests of a route may cause, so that a failing service is not buried under them.
//!
//! Earned by requests (20 %) and by time (10 a second), kept for ten seconds. Costs nothing while nothing fails: what
//! was earned is reckoned up when a retry asks, from the route's own request counters.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Retries earned by one request.
const PER_REQUEST: f64 = 0.2;
/// Retries earned by one second.
const PER_SECOND: f64 = 10.0;
/// What was earned longer ago is lost.
const WINDOW: Duration = Duration::from_secs(10);

/// The retries that one route has earned and not spent.
#[derive(Debug, Default)]
pub(crate) struct RetryBudget(Mutex<Option<Account>>);

#[derive(Debug, Clone, Copy)]
struct Account {
    balance: f64,
    at: Instant,
    /// The route's requests until then.
    requests: u64,
}

impl RetryBudget {
    /// Spends one retry, if there is one. `requests` is how many requests of the route have ended, ever.
    pub(crate) fn spend(&self, requests: u64, now: Instant) -> bool {
        let mut account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = PER_SECOND * WINDOW.as_secs_f64();
        let mut new = account.unwrap_or(Account { balance: full, at: now, requests }).earn(requests, now);
        let affordable = new.balance >= 1.0;
        if affordable {
            new.balance -= 1.0;
        }
        *account = Some(new);
        affordable
    }
}

impl Account {
    fn earn(self, requests: u64, now: Instant) -> Self {
        let elapsed = now.saturating_duration_since(self.at);
        // After a longer silence only the last window counts; requests are taken as spread evenly.
        let within = elapsed.min(WINDOW).as_secs_f64();
        let part = if elapsed > WINDOW { within / elapsed.as_secs_f64() } else { 1.0 };
        let recent = requests.saturating_sub(self.requests) as f64 * part;
        let kept = self.balance * (1.0 - within / WINDOW.as_secs_f64()).max(0.0);
        Self { balance: kept + recent * PER_REQUEST + within * PER_SECOND, at: now.max(self.at), requests }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(budget: &RetryBudget, wanted: usize, requests: u64, now: Instant) -> usize {
        (0..wanted).filter(|_| budget.spend(requests, now)).count()
    }

    #[test]
    fn a_quiet_route_has_ten_seconds_worth_of_retries_and_then_ten_a_second() {
        let (budget, start) = (RetryBudget::default(), Instant::now());
        assert_eq!(spent(&budget, 1000, 0, start), 100);
        assert_eq!(spent(&budget, 1000, 0, start + Duration::from_secs(1)), 10);
    }

    #[test]
    fn a_busy_route_has_a_fifth_of_its_requests() {
        let (budget, start) = (RetryBudget::default(), Instant::now());
        spent(&budget, 1000, 0, start);
        assert_eq!(spent(&budget, 5000, 10_000, start + Duration::from_secs(1)), 2010);
    }

    #[test]
    fn requests_of_long_ago_earn_nothing() {
        let (budget, start) = (RetryBudget::default(), Instant::now());
        spent(&budget, 1, 0, start);
        // A hundred requests a second for a thousand seconds: the last ten earned 200.
        assert_eq!(spent(&budget, 5000, 100_000, start + Duration::from_secs(1000)), 300);
    }
}
