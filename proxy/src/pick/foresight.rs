//! What the choice would be beyond the draw: where a cookie leads, and where the request would go after a failure. Chooses
//! nothing, counts nothing and takes no turn.
//!
//! Not here: the draw itself (see the module above), how it is told (see `explain`).

use std::sync::Arc;
use std::time::Instant;

use super::care::Care;
use super::{Tried, balance, is_out};
use crate::endpoint::Endpoint;
use crate::request::RequestView;
use crate::sticky::{Bound, Said, unix_now};
use crate::table::{RouteEntry, Version};

impl RouteEntry {
    /// What the request's cookies say; `None` on a route that binds nobody.
    pub(crate) fn cookie_says(&self, request: &RequestView<'_>) -> Option<Said> {
        self.sticky.as_ref().map(|sticky| sticky.read(request.fields, unix_now()))
    }

    /// The version that the client stays with by its cookie.
    pub(crate) fn kept_version(&self, bound: &Bound) -> Option<&Arc<Version>> {
        let version = self.version_bound(bound)?;
        version.keeping().iter().any(|endpoint| !endpoint.state.is_full()).then_some(version)
    }

    /// The instance that would serve a bound client in its version.
    pub(crate) fn kept_instance<'a>(
        &'a self,
        bound: &Bound,
        request: &RequestView<'_>,
        now: Instant,
    ) -> Option<&'a Arc<Endpoint>> {
        let version = self.version_bound(bound)?;
        let usable = |endpoint: &Endpoint| !endpoint.state.is_full();
        let own = version.keeping().iter().find(|endpoint| endpoint.key.id.as_str() == &*bound.instance);
        let own = own.filter(|own| usable(own) && !is_out(version, version.keeping(), own, now));
        let foresee = |among| foresee_among(version, among, &usable, request, now);
        own.or_else(|| foresee(version.serving())).or_else(|| foresee(version.draining()))
    }

    /// Where the request would go after this instance of this version had failed it; of several versions the likeliest.
    pub(crate) fn foresee_retry<'a>(
        &'a self,
        first: (&Version, &Endpoint),
        bound: Option<&Bound>,
        request: &RequestView<'_>,
        now: Instant,
    ) -> Option<(&'a Arc<Version>, &'a Arc<Endpoint>)> {
        let (version, endpoint) = first;
        let tried = Tried { uids: vec![endpoint.state.uid], versions: vec![version.name.clone()] };
        let usable = |endpoint: &Endpoint| !tried.has(endpoint) && !endpoint.state.is_full();
        let foresee = |version: &'a Arc<Version>, among: &'a [Arc<Endpoint>]| {
            foresee_among(version, among, &usable, request, now).map(|endpoint| (version, endpoint))
        };
        let by_rule = self.rules_for(request).find_map(|(version, _)| foresee(version, version.serving()));
        let by_cookie = || {
            let version = self.version_bound(bound?)?;
            if self.is_failing_canary(version, &tried) {
                return None;
            }
            foresee(version, version.serving()).or_else(|| foresee(version, version.draining()))
        };
        by_rule.or_else(by_cookie).or_else(|| {
            let lots = self.lots_after(&tried);
            let numbers = (0..self.versions.len()).rev();
            let likeliest = numbers.max_by(|a, b| lots.share(*a).total_cmp(&lots.share(*b)))?;
            let version = self.versions.get(likeliest).filter(|_| lots.share(likeliest) > 0.0)?;
            foresee(version, lots.tier().endpoints(version))
        })
    }
}

/// The one of these instances that would serve, with all luck.
pub(super) fn foresee_among<'a>(
    version: &Version,
    among: &'a [Arc<Endpoint>],
    usable: &dyn Fn(&Endpoint) -> bool,
    request: &RequestView<'_>,
    now: Instant,
) -> Option<&'a Arc<Endpoint>> {
    let care = Care::of_the_lucky(version, among, now);
    let one_of = |among, counts: &dyn Fn(&Endpoint) -> bool| {
        let usable = |endpoint: &Endpoint| usable(endpoint) && counts(endpoint);
        balance::Question { version, among, usable: &usable, request, now }.foresee()
    };
    one_of(care.near(), &|e| care.is_preferred(e))
        .or_else(|| one_of(among, &|e| care.is_sound(e)))
        .or_else(|| one_of(among, &|_| true))
}
