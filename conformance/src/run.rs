//! Running cases one by one; a panic fails its case only.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
};

use crate::{
    answer::{Answer, Failure, Values},
    case::Case,
    compare, ops,
    select::File,
};

/// How many cases passed and failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// Runs the cases and prints a line for each that fails.
pub(crate) fn all(files: &[&File]) -> Count {
    static LAST_PANIC: Mutex<String> = Mutex::new(String::new());
    let last_panic = || LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| *last_panic() = info.to_string().replace('\n', " ")));
    let mut count = Count::default();
    for file in files {
        let result = panic::catch_unwind(AssertUnwindSafe(|| one(file)));
        let problems = result.unwrap_or_else(|_| vec![std::mem::take(&mut *last_panic())]);
        if problems.is_empty() {
            count.passed += 1;
        } else {
            count.failed += 1;
            println!("FAIL {}: {}", file.name(), problems.join("; "));
        }
    }
    panic::set_hook(usual);
    count
}

fn one(file: &File) -> Vec<String> {
    let case = match Case::read(&file.path) {
        Ok(case) if case.op == file.op => case,
        Ok(case) => return vec![format!("the file holds a case of {}", case.op)],
        Err(why) => return vec![format!("cannot be read: {why}")],
    };
    let Some(runner) = ops::runner(&case.op) else { return vec!["no runner".into()] };
    let answer = match runner(&case) {
        Ok(answer) => answer,
        Err(Failure::Refused(why)) => Answer::Refused { why, state: Values::new() },
        Err(Failure::Unsupported(why)) => return vec![format!("not supported: {why}")],
    };
    let mut problems = compare::problems(&case, &answer);
    let unread = case.args.unread();
    if !unread.is_empty() && !matches!(answer, Answer::Refused { .. }) {
        problems.push(format!("not supported: arguments {unread:?}"));
    }
    problems
}
