//! Orders about copies of a route's requests.
//!
//! Not here: copying (that is `proxy`'s).

use std::sync::Arc;

use fairway_catalog::Route;
use fairway_catalog::inputs::MirrorRecord;
use fairway_config::names::{FrontPort, NotAPercent, Percent, RouteId};
use jiff::Timestamp;
use serde_json::Value;

use super::weights::resolve;
use super::{Control, Done, OrderError, Shared, Who, audit, error, find_route};
use crate::types::MirrorOrder;

impl Control {
    /// Has requests of a route copied to one of its backends, in place of what was ordered before.
    pub(crate) async fn put_mirror(
        &self,
        route: String,
        order: MirrorOrder,
        who: Who,
    ) -> Result<Done<Arc<Route>>, OrderError> {
        self.carry_out(move |shared| async move { shared.put_mirror(&route, &order, &who).await }).await
    }

    /// Has nothing of a route copied any more; `now` is `None` when the route itself is gone.
    pub(crate) async fn delete_mirror(
        &self,
        route: String,
        who: Who,
    ) -> Result<Done<Option<Arc<Route>>>, OrderError> {
        self.carry_out(move |shared| async move { shared.delete_mirror(&route, &who).await }).await
    }
}

impl Shared {
    async fn put_mirror(
        &self,
        route: &str,
        order: &MirrorOrder,
        who: &Who,
    ) -> Result<Done<Arc<Route>>, OrderError> {
        let route = find_route(&self.catalog(), route)?;
        error::check_reason(&order.reason)?;
        if !carries_requests(&route.id) {
            return Err(OrderError::NotRequests { route: route.id.clone() });
        }
        let percent = percent(&order.percent)?;
        let to = resolve(&order.to, route.members.iter().map(|member| &member.backend.id))
            .map_err(|error| OrderError::Weights(vec![error]))?;
        let now = Timestamp::now();
        let record = Arc::new(MirrorRecord {
            to,
            percent,
            author: who.name.as_str().into(),
            at: now,
            reason: order.reason.as_str().into(),
        });
        let detail = format!("{percent} % to {}", record.to);
        let audit = audit(who, "put-mirror", &route.id, detail, &order.reason, now);
        let (id, stored) = (route.id.clone(), record.clone());
        self.store(move |store| store.put_mirror(&id, &stored, &audit)).await?;
        let live = self
            .decide(|decisions| {
                decisions.mirrors.insert(route.id.clone(), record);
            })
            .await;
        Ok(Done { now: self.catalog().routes.get(&route.id).cloned().unwrap_or(route), live })
    }

    async fn delete_mirror(&self, route: &str, who: &Who) -> Result<Done<Option<Arc<Route>>>, OrderError> {
        let stored = |id: &RouteId| self.inputs.current().decisions.mirrors.contains_key(id);
        let id = self.there_or_remembered(route, stored, |_| Ok(()))?;
        let mut live = true;
        if stored(&id) {
            let audit = audit(who, "delete-mirror", &id, String::new(), "", Timestamp::now());
            let gone = id.clone();
            self.store(move |store| store.delete_mirror(&gone, &audit)).await?;
            live = self
                .decide(|decisions| {
                    decisions.mirrors.remove(&id);
                })
                .await;
        }
        Ok(Done { now: self.catalog().routes.get(&id).cloned(), live })
    }
}

/// Whether what comes on this route is read as HTTP.
pub(super) fn carries_requests(route: &RouteId) -> bool {
    let carries = |front: FrontPort| front.protocol.is_http();
    !route.is_tls() && route.front_port().is_none_or(carries)
}

fn percent(value: &Value) -> Result<Percent, OrderError> {
    let Value::Number(number) = value else {
        return Err(OrderError::Percent(format!("{value} is not a number: write 10, or 0.5")));
    };
    // A refusal names the number as it was written.
    let not_one = |_| OrderError::Percent(NotAPercent { given: number.to_string() }.to_string());
    Percent::new(number.as_f64().unwrap_or(f64::NAN)).map_err(not_one)
}
