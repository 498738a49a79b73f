//! The last few of something.

/// The last `N` items, the oldest first, without a heap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<T, const N: usize> {
    items: [T; N],
    len: usize,
}

impl<T: Copy + Default, const N: usize> Default for Window<T, N> {
    fn default() -> Self {
        Self { items: [T::default(); N], len: 0 }
    }
}

impl<T: Copy, const N: usize> Window<T, N> {
    /// Adds an item, and forgets the oldest one if there is no room.
    pub(super) fn push(&mut self, item: T) {
        if self.len == N {
            self.remove(0);
        }
        self.items[self.len] = item;
        self.len += 1;
    }

    /// Adds an item before the one at `index`. The window has room.
    pub(super) fn insert(&mut self, index: usize, item: T) {
        self.items.copy_within(index..self.len, index + 1);
        self.items[index] = item;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, index: usize) {
        self.items.copy_within(index + 1..self.len, index);
        self.len -= 1;
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == N
    }

    pub(super) fn items(&self) -> &[T] {
        &self.items[..self.len]
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut T> {
        self.items[..self.len].last_mut()
    }
}

/// The last `N` items, the oldest first, with memory for twice as many as there are at most.
#[derive(Debug, Clone)]
pub(super) struct Recent<T, const N: usize>(Vec<T>);

impl<T, const N: usize> Default for Recent<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const N: usize> Recent<T, N> {
    /// Adds an item, and forgets the oldest one if there are `N`.
    pub(super) fn push(&mut self, item: T) {
        if self.0.len() == N {
            self.0.remove(0);
        } else if self.0.len() == self.0.capacity() {
            // A Vec has room for four at least, and most groups of a cluster commit nothing any more: they have one.
            self.0.reserve_exact(self.0.len().clamp(1, N - self.0.len()));
        }
        self.0.push(item);
    }

    pub(super) fn items(&self) -> &[T] {
        &self.0
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.0.capacity()
    }
}
