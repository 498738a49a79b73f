//! The memory of lists that every message of a kind needs again.

use std::any::{Any, TypeId};
use std::fmt;

/// Keeps empty lists, by the type of their elements, so that the next message of the same kind allocates none. A driver that
/// sends and reads the same messages all the time gives its lists back; see [`Reader::with_lists`](crate::Reader::with_lists).
///
/// ```
/// use milena_wire::Lists;
///
/// let mut lists = Lists::default();
/// lists.give(vec![1, 2, 3]);
/// let list: Vec<i32> = lists.take();
/// assert!(list.is_empty() && list.capacity() >= 3);
/// ```
#[derive(Default)]
pub struct Lists {
    /// A `Vec<Vec<T>>` for each type. They are few, and searched from the first on.
    kept: Vec<(TypeId, Box<dyn Any + Send + Sync>)>,
}

/// At most N lists of a type are kept.
const KEPT_MAX: usize = 16;
/// A list whose memory is larger is not kept: one message with thousands of partitions would hold it for ever.
const LIST_BYTES_MAX: usize = 8 << 10;

impl Lists {
    /// An empty list, with the memory of one that was given back if there is one.
    pub fn take<T: Send + Sync + 'static>(&mut self) -> Vec<T> {
        self.of::<T>().and_then(Vec::pop).unwrap_or_default()
    }

    /// Takes the memory of a list back. What the list holds is dropped.
    pub fn give<T: Send + Sync + 'static>(&mut self, mut list: Vec<T>) {
        list.clear();
        if list.capacity() == 0 || list.capacity() * size_of::<T>() > LIST_BYTES_MAX {
            return;
        }
        match self.of::<T>() {
            Some(kept) if kept.len() < KEPT_MAX => kept.push(list),
            Some(_) => {}
            None => self.kept.push((TypeId::of::<T>(), Box::new(vec![list]))),
        }
    }

    fn of<T: 'static>(&mut self) -> Option<&mut Vec<Vec<T>>> {
        let (_, kept) = self.kept.iter_mut().find(|(of, _)| *of == TypeId::of::<T>())?;
        kept.downcast_mut()
    }
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lists of {} types", self.kept.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_by_type_and_within_limits() {
        let mut lists = Lists::default();
        lists.give(vec![1_u8; 100]);
        lists.give(vec![String::from("a")]);
        assert_eq!(lists.take::<u64>().capacity(), 0, "none of this type was given");
        assert_eq!(lists.take::<String>().capacity(), 1);
        assert_eq!((lists.take::<u8>().capacity(), lists.take::<u8>().capacity()), (100, 0));
        lists.give(vec![0_u8; LIST_BYTES_MAX + 1]);
        assert_eq!(lists.take::<u8>().capacity(), 0, "too large");
        (0..2 * KEPT_MAX).for_each(|_| lists.give(vec![0_u8]));
        assert_eq!((0..2 * KEPT_MAX).filter(|_| lists.take::<u8>().capacity() > 0).count(), KEPT_MAX);
    }
}
