//! A schedule for each group of parameters.

use alloc::{collections::BTreeMap, string::String};

use crate::{Schedule, ScheduleError};

/// Schedules by name: one for each group of parameters, or one for each hyper-parameter.
///
/// Names are kept in sorted order. Layers of one schedule at different heights are
/// [`layer_wise_decay`](crate::layer_wise_decay)'s.
///
/// ```
/// use gradus_schedule::{Groups, ScheduleExt, warmup_cosine};
/// let lr = warmup_cosine(0.1, 10, 100)?;
/// let groups = Groups::new([("head", lr.scale(1.0)?), ("body", lr.scale(0.1)?)])?;
/// assert_eq!(groups.value("head", 10), Some(0.1));
/// let all: Vec<(&str, f64)> = groups.values(5).collect();
/// assert_eq!(all, [("body", 0.05 * 0.1), ("head", 0.05)]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Groups<S> {
    groups: BTreeMap<String, S>,
}

impl<S: Schedule> Groups<S> {
    /// A schedule for each name.
    ///
    /// # Errors
    /// [`ScheduleError::DuplicateName`] when two groups have the same name.
    pub fn new<N: Into<String>>(
        groups: impl IntoIterator<Item = (N, S)>,
    ) -> Result<Self, ScheduleError> {
        let mut all = BTreeMap::new();
        for (index, (name, schedule)) in groups.into_iter().enumerate() {
            if all.insert(name.into(), schedule).is_some() {
                return Err(ScheduleError::DuplicateName { index });
            }
        }
        Ok(Self { groups: all })
    }

    /// The schedule of a group, if there is one of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&S> {
        self.groups.get(name)
    }

    /// The value of a group, if there is one of this name.
    #[must_use]
    pub fn value(&self, name: &str, step: u64) -> Option<f64> {
        self.get(name).map(|schedule| schedule.value(step))
    }

    /// The values of all groups, by name.
    pub fn values(&self, step: u64) -> impl Iterator<Item = (&str, f64)> {
        self.groups.iter().map(move |(name, schedule)| (name.as_str(), schedule.value(step)))
    }

    /// Number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use alloc::{boxed::Box, vec, vec::Vec};

    use super::*;
    use crate::{Constant, Linear};

    #[test]
    fn groups_of_different_kinds() {
        let boxed = |s: Box<dyn Schedule>| s;
        let groups = Groups::new(vec![
            ("weight_decay", boxed(Box::new(Constant::new(0.05).unwrap()))),
            ("lr", boxed(Box::new(Linear::new(0.1, 0.0, 10).unwrap()))),
        ])
        .unwrap();
        assert_eq!((groups.value("lr", 5), groups.value("momentum", 5)), (Some(0.05), None));
        assert_eq!(groups.values(10).collect::<Vec<_>>(), [("lr", 0.0), ("weight_decay", 0.05)]);
        assert!(groups.get("lr").is_some() && groups.len() == 2 && !groups.is_empty());
    }

    #[test]
    fn a_name_is_given_once() {
        let flat = Constant::new(0.1).unwrap();
        let error = Groups::new([("a", flat), ("b", flat), ("a", flat)]);
        assert_eq!(error, Err(ScheduleError::DuplicateName { index: 2 }));
        assert!(Groups::<Constant>::new([] as [(&str, Constant); 0]).unwrap().is_empty());
    }
}
