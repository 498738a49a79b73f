//! What the application and the driver of a group's member tell each other beside commands: whether it is in the group, and
//! that something was marked as done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use milena_core::source::Position;

use crate::Error;

/// Where a member stands, as far as the application has to hear of it.
pub(super) struct Standing {
    pub(super) group: Arc<str>,
    pub(super) is_at_most_once: bool,
    /// Whether the group assigns the partitions. Otherwise the application does, and the group only stores its offsets.
    pub(super) is_member: bool,
    /// Where a partition is read from of which the group has committed nothing.
    pub(super) reset: Option<Position>,
    /// Whether what is done is committed without a call.
    pub(super) is_automatic: bool,
    /// Whether something was marked as done since the driver cleared this. The first mark wakes the driver, which takes in what
    /// is marked before it commits; marks after that wake nothing.
    has_marks: AtomicBool,
    /// Whether so much was marked, out of order, that the driver is to take it in now.
    is_crowded: AtomicBool,
    /// What was marked as done after its partition had been given up, and up to which offset.
    late: Mutex<Late>,
    place: Mutex<Place>,
}

type Late = BTreeMap<(Arc<str>, i32), i64>;

enum Place {
    /// In the group, or on the way into it.
    Member,
    /// It left because the application took no batch, which the application has not heard yet.
    Left(Error),
    /// As `Left`, and it has heard so: when it asks for a batch again, the member joins again.
    Told,
    /// It does not come back by itself.
    Failed(Error),
    /// It was closed.
    Closed,
}

/// What a reader that finds no batch does.
pub(super) enum Outlook {
    Wait,
    /// Waits, and the member joins again.
    Rejoin,
    End,
}

impl Standing {
    pub(super) fn new(
        group: Arc<str>,
        is_at_most_once: bool,
        is_member: bool,
        reset: Option<Position>,
        is_automatic: bool,
    ) -> Self {
        Self {
            group,
            is_at_most_once,
            is_member,
            reset,
            is_automatic,
            has_marks: AtomicBool::new(false),
            is_crowded: AtomicBool::new(false),
            late: Mutex::default(),
            place: Mutex::new(Place::Member),
        }
    }

    /// What a reader does that finds no batch.
    ///
    /// # Errors
    /// When the member is out of the group: once if it joins again with the next call, else each time.
    pub(super) fn outlook(&self) -> Result<Outlook, Error> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *place, Place::Member) {
            Place::Member => Ok(Outlook::Wait),
            Place::Left(error) => {
                *place = Place::Told;
                Err(error)
            }
            Place::Told => Ok(Outlook::Rejoin),
            Place::Failed(error) => {
                *place = Place::Failed(error.clone());
                Err(error)
            }
            Place::Closed => {
                *place = Place::Closed;
                Ok(Outlook::End)
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(*self.place.lock().unwrap_or_else(PoisonError::into_inner), Place::Closed)
    }

    fn set(&self, to: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    pub(super) fn left(&self, error: Error) {
        self.set(Place::Left(error));
    }

    pub(super) fn failed(&self, error: Error) {
        self.set(Place::Failed(error));
    }

    /// There is a new subscription.
    pub(super) fn joins(&self) {
        self.set(Place::Member);
    }

    pub(super) fn closed(&self) {
        self.set(Place::Closed);
    }

    /// Something was marked as done. Answers whether to wake the driver.
    pub(super) fn note_mark(&self) -> bool {
        !self.has_marks.load(Ordering::Relaxed) && !self.has_marks.swap(true, Ordering::Relaxed)
    }

    /// The driver is to take in what is marked now.
    pub(super) fn note_crowd(&self) {
        self.is_crowded.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_crowd(&self) -> bool {
        self.is_crowded.load(Ordering::Relaxed) && self.is_crowded.swap(false, Ordering::Relaxed)
    }

    /// Offsets below `end` were marked as done after their partition had been given up.
    pub(super) fn note_late(&self, topic: &Arc<str>, partition: i32, end: i64) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let known = late.entry((Arc::clone(topic), partition)).or_insert(end);
        *known = end.max(*known);
    }

    pub(super) fn take_late(&self) -> Late {
        std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn has_marks(&self) -> bool {
        self.has_marks.load(Ordering::Relaxed)
    }

    /// The next mark wakes the driver. To be called before it takes in what is marked: a mark after that finds this cleared,
    /// because both hold the lock of the marks.
    pub(super) fn clear_marks(&self) {
        self.has_marks.store(false, Ordering::Relaxed);
    }
}
