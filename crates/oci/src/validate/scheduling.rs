//! Rules of scheduling, those of sched_setattr(2) and ioprio_set(2), as far as they hold on every kernel.

use super::text::fault;
use crate::{Fault, IoPriority, Scheduler, SchedulerPolicy};

pub(super) fn check(scheduler: &Scheduler) -> Result<(), Fault> {
    let policy = scheduler.policy;
    if policy == SchedulerPolicy::Iso {
        return fault("process.scheduler.policy", "SCHED_ISO is reserved and no kernel has it; choose another");
    }
    if !(-20..=19).contains(&scheduler.nice) {
        let reason = format!("{} is out of range; write -20 to 19", scheduler.nice);
        return fault("process.scheduler.nice", reason);
    }
    let priority = scheduler.priority;
    if !(0..=99).contains(&priority) {
        return fault("process.scheduler.priority", format!("{priority} is out of range; write 0 to 99"));
    }
    let real_time = matches!(policy, SchedulerPolicy::Fifo | SchedulerPolicy::RoundRobin);
    if real_time && priority == 0 {
        let reason = format!("{} needs a priority; write 1 to 99", policy.name());
        return fault("process.scheduler.priority", reason);
    }
    if !real_time && priority != 0 {
        let reason = format!("{} has no priority; write 0, or choose SCHED_FIFO or SCHED_RR", policy.name());
        return fault("process.scheduler.priority", reason);
    }
    deadline(scheduler)
}

fn deadline(scheduler: &Scheduler) -> Result<(), Fault> {
    let Scheduler { runtime, deadline, period, .. } = *scheduler;
    if scheduler.policy != SchedulerPolicy::Deadline {
        for (name, value) in [("runtime", runtime), ("deadline", deadline), ("period", period)] {
            if value != 0 {
                let reason = format!("{} has none; take it out or choose SCHED_DEADLINE", scheduler.policy.name());
                return fault(format_args!("process.scheduler.{name}"), reason);
            }
        }
        return Ok(());
    }
    // sched(7): runtime <= deadline <= period, all of them above 1024 and below 2 to the power of 63.
    for (name, value) in [("runtime", runtime), ("deadline", deadline), ("period", period)] {
        let optional = name == "period" && value == 0;
        if !optional && !(1024..1 << 63).contains(&value) {
            let reason = format!("{value} is out of range; write nanoseconds, 1024 or more");
            return fault(format_args!("process.scheduler.{name}"), reason);
        }
    }
    if runtime > deadline {
        let reason = format!("{runtime} is above the deadline {deadline}; lower it");
        return fault("process.scheduler.runtime", reason);
    }
    if period != 0 && deadline > period {
        return fault("process.scheduler.deadline", format!("{deadline} is above the period {period}; lower it"));
    }
    Ok(())
}

pub(super) fn io(priority: &IoPriority) -> Result<(), Fault> {
    if !(0..=7).contains(&priority.priority) {
        let reason = format!("{} is out of range; write 0 to 7, 0 being first", priority.priority);
        return fault("process.ioPriority.priority", reason);
    }
    Ok(())
}
