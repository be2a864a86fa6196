//! How often what the storms are for has come about: a storm that brings nothing about shows nothing.

/// How often what the storms are for has come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) leases: u64,
    /// Of them, copies.
    pub(crate) copies: u64,
    /// Copies that took the place of the lease that they were beside.
    pub(crate) copies_in_place: u64,
    pub(crate) expired: u64,
    pub(crate) absent: u64,
    pub(crate) handed_back: u64,
    pub(crate) failures: u64,
    pub(crate) given_up: u64,
    pub(crate) resumed: u64,
    /// From the checkpoint before the newest, which was torn or lost.
    pub(crate) resumed_before: u64,
    /// Answers under leases that were over.
    pub(crate) stale_answers: u64,
    pub(crate) conflicts: u64,
    /// Sessions that were told to forget what another life of the store had granted.
    pub(crate) forgotten: u64,
    /// Pauses, stops and resumes that changed something.
    pub(crate) steered: u64,
    /// Sweeps that were extended.
    pub(crate) extended: u64,
    /// Sweeps that were stopping when the last lease on a run of theirs ended.
    pub(crate) stopped: u64,
    /// Processes of workers that a person has drained.
    pub(crate) drained: u64,
    /// Workers that were paused because run after run failed on them.
    pub(crate) paused: u64,
    /// The most reports of one worker that waited for their acknowledgement.
    pub(crate) unacknowledged_max: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            leases,
            copies,
            copies_in_place,
            expired,
            absent,
            handed_back,
            failures,
            given_up,
            resumed,
            resumed_before,
            ..
        } = self;
        let Self {
            stale_answers,
            conflicts,
            forgotten,
            steered,
            extended,
            stopped,
            drained,
            paused,
            unacknowledged_max,
            ..
        } = self;
        write!(
            f,
            "{leases} leases ({copies} copies, of which {copies_in_place} took the place of the first, {expired} expired, {absent} absent, {handed_back} handed back, {failures} failed, {resumed} from a \
             checkpoint, {resumed_before} of these from the one before the newest), {given_up} runs given up, {stale_answers} answers under stale leases, {conflicts} conflicts, {forgotten} sessions that forget, \
             {steered} pauses, stops and resumes, {extended} extensions, {stopped} sweeps stopped, {drained} workers drained, {paused} paused, at most \
             {unacknowledged_max} reports of a worker under way"
        )
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.leases += other.leases;
        self.copies += other.copies;
        self.copies_in_place += other.copies_in_place;
        self.expired += other.expired;
        self.absent += other.absent;
        self.handed_back += other.handed_back;
        self.failures += other.failures;
        self.given_up += other.given_up;
        self.resumed += other.resumed;
        self.resumed_before += other.resumed_before;
        self.stale_answers += other.stale_answers;
        self.conflicts += other.conflicts;
        self.forgotten += other.forgotten;
        self.steered += other.steered;
        self.extended += other.extended;
        self.stopped += other.stopped;
        self.drained += other.drained;
        self.paused += other.paused;
        self.unacknowledged_max = self.unacknowledged_max.max(other.unacknowledged_max);
    }

    /// What has never come about.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let counts = [
            ("leases", self.leases),
            ("copies", self.copies),
            ("copies that take the place of the first", self.copies_in_place),
            ("expired leases", self.expired),
            ("absent leases", self.absent),
            ("leases handed back", self.handed_back),
            ("failures", self.failures),
            ("runs given up", self.given_up),
            ("resumed runs", self.resumed),
            ("runs resumed from the checkpoint before the newest", self.resumed_before),
            ("answers under stale leases", self.stale_answers),
            ("conflicts", self.conflicts),
            ("sessions that forget", self.forgotten),
            ("pauses, stops and resumes", self.steered),
            ("extensions", self.extended),
            ("sweeps that stop", self.stopped),
            ("drained workers", self.drained),
            ("paused workers", self.paused),
        ];
        counts.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}
