//! A client of the echo: what it has sent has to come back.

use std::collections::VecDeque;

use crate::violation::{Checked, ensure};
use crate::wire::Incoming;

/// Somebody who talks to itself.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    pub(crate) sent: usize,
    pub(crate) awaited: VecDeque<Incoming>,
}

impl Echo {
    pub(crate) fn hear(&mut self, incoming: &Incoming) -> Checked {
        let awaited = self.awaited.pop_front();
        ensure!(
            OneOrder,
            awaited.as_ref() == Some(incoming),
            "another echo than {:.40}",
            format!("{awaited:?}")
        );
        Ok(())
    }
}
