/* The shepherd of one step: starts the script, obeys control signals, enforces the time limit, ends what is left, and
 * appends the end to the steps log.  One thread; it sleeps in poll and wakes only for a signal, a deadline or the start.
 *
 * Time is CLOCK_BOOTTIME, so a machine that slept does not give jobs time for free; time suspended does not count. */
#include "shepherd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define BORN_AFTER (100 * 1000000LL) /* a script that is over sooner costs one record and message instead of two */
#define NEVER INT64_MAX

enum phase { RUNNING, TERMINATING, KILLING };

struct step {
    const struct spec *spec;
    int log_fd, signal_fd, timer_fd, pipe_fd;
    pid_t main;
    bool main_gone, exec_done, told_born, told_started, warned;
    int status;
    enum phase phase;
    uint32_t flags;
    int64_t t_start, limit_s; /* limit 0 = none */
    int64_t t_suspended, suspended_ns; /* t_suspended 0 = it runs */
    int64_t t_stop; /* suspended, and processes that caught SIGTSTP are stopped then; 0 = nothing is to be stopped */
    int64_t t_kill, t_round, round_ns, t_unkillable;
    double t_real_start;
    struct failure failure;
    char unkillable[128];
};

/* ---- telling ---- */

static void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void tell_started(struct step *step, enum record_kind kind)
{
    struct record_started record = {
        .shepherd_pid = (uint32_t)getpid(),
        .main_pid = (uint32_t)step->main,
        .shepherd_start = process_start_ticks(getpid()),
        .t_start = step->t_real_start,
    };
    record_seal(&record.head, kind, sizeof record, &step->spec->head);
    /* Without room it is left out: the end, which is never left out, says the same. */
    int error = record_append(step->log_fd, &record.head);
    step->told_born = true;
    step->told_started |= kind == RECORD_STARTED && !error;
}

static void tell_ended(const struct step *step, pid_t server)
{
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    struct record_ended record = {
        .status = step->status,
        .stage = step->failure.stage,
        .error = step->failure.error,
        .flags = step->flags,
        .t_start = step->exec_done ? step->t_real_start : 0,
        .t_end = now_real(),
        .user_us = (uint64_t)usage.ru_utime.tv_sec * 1000000 + (uint64_t)usage.ru_utime.tv_usec,
        .system_us = (uint64_t)usage.ru_stime.tv_sec * 1000000 + (uint64_t)usage.ru_stime.tv_usec,
        .max_rss_kib = (uint64_t)usage.ru_maxrss,
    };
    snprintf(record.text, sizeof record.text, "%s",
             step->flags & ENDED_UNKILLABLE ? step->unkillable : step->failure.text);
    size_t length = strlen(record.text);
    record_seal(&record.head, RECORD_ENDED, offsetof(struct record_ended, text) + length, &step->spec->head);
    for (long pause = 50; record_append(step->log_fd, &record.head) != 0; pause = pause < 5000 ? pause * 2 : 10000)
        sleep_ms(pause); /* a full disk: the end is kept until there is room */
    if (getppid() != server)
        fdatasync(step->log_fd); /* helixd, which syncs many ends at once, is not there */
}

/* ---- signals to the step ---- */

static size_t signal_step(const struct step *step, int signal, enum scope scope)
{
    struct procs procs;
    size_t sent = 0;
    if (procs_below(getpid(), &procs))
        sent = procs_signal(&procs, signal, scope == SCOPE_BATCH ? step->main : 0,
                            scope == SCOPE_CHILDREN ? step->main : 0);
    procs_free(&procs);
    return sent;
}

static void stop_or_go(struct step *step, bool stop)
{
    step->t_stop = 0;
    bool frozen = *step->spec->cg_unified && cgroup_freeze(step->spec, stop);
    if (!stop) {
        signal_step(step, SIGCONT, SCOPE_ALL); /* handlers may have put things aside when SIGTSTP came */
        return;
    }
    if (frozen)
        return;
    size_t before = 0;
    for (int round = 0; round < 10; round++) { /* until no new process turns up between listing and stopping */
        size_t now = signal_step(step, SIGSTOP, SCOPE_ALL);
        if (now == before)
            break;
        before = now;
    }
}

static void suspend(struct step *step, uint32_t grace_s)
{
    struct procs procs;
    bool caught = grace_s > 0 && procs_below(getpid(), &procs);
    if (caught) {
        caught = procs_catch(&procs, SIGTSTP);
        if (caught)
            procs_signal(&procs, SIGTSTP, 0, 0);
        procs_free(&procs);
    }
    step->t_suspended = now_boot_ns();
    if (caught)
        step->t_stop = step->t_suspended + (int64_t)grace_s * SECOND;
    else
        stop_or_go(step, true);
}

static void resume(struct step *step)
{
    if (step->t_suspended) {
        step->suspended_ns += now_boot_ns() - step->t_suspended;
        step->t_suspended = 0;
        stop_or_go(step, false);
    }
}

static void kill_round(struct step *step)
{
    if (!cgroup_kill(step->spec)) {
        signal_step(step, SIGSTOP, SCOPE_ALL); /* so that they cannot fork faster than they are killed */
        signal_step(step, SIGKILL, SCOPE_ALL);
    }
    step->round_ns = step->round_ns ? step->round_ns * 2 : 5 * 1000000;
    if (step->round_ns > SECOND)
        step->round_ns = SECOND;
    step->t_round = now_boot_ns() + step->round_ns;
}

static void begin_killing(struct step *step)
{
    if (step->phase == KILLING)
        return;
    step->phase = KILLING;
    step->t_stop = 0;
    step->t_unkillable = now_boot_ns() + (int64_t)step->spec->head.unkillable_s * SECOND;
    if (step->t_suspended && *step->spec->cg_unified)
        cgroup_freeze(step->spec, false);
    kill_round(step);
}

static void terminate(struct step *step, uint32_t kill_wait_s, int signal)
{
    if (step->phase == KILLING)
        return;
    int64_t t_kill = now_boot_ns() + (int64_t)kill_wait_s * SECOND;
    if (kill_wait_s == 0) {
        begin_killing(step);
    } else if (step->phase == RUNNING) {
        step->phase = TERMINATING;
        step->t_kill = t_kill;
        resume(step);
        signal_step(step, SIGCONT, SCOPE_ALL);
        if (signal > 0 && signal < NSIG)
            signal_step(step, signal, step->spec->head.flags & SPEC_WARN_BATCH ? SCOPE_BATCH : SCOPE_ALL);
        else
            signal_step(step, SIGTERM, SCOPE_ALL);
    } else if (t_kill < step->t_kill) {
        step->t_kill = t_kill;
    }
}

/* ---- what wakes the shepherd ---- */

static void obey(struct step *step, uint64_t value)
{
    uint64_t argument = value & 0xffffffffffffffULL;
    switch (value >> 56) {
    case CONTROL_SIGNAL_STEP:
        if ((argument & 0xff) > 0 && (argument & 0xff) < NSIG && (argument >> 8) <= SCOPE_ALL)
            signal_step(step, (int)(argument & 0xff), (enum scope)(argument >> 8));
        break;
    case CONTROL_TERMINATE:
        step->flags |= ENDED_TERMINATED;
        terminate(step, (uint32_t)argument, (int)(argument >> 32 & 0xff));
        break;
    case CONTROL_SUSPEND:
        if (!step->t_suspended && step->phase == RUNNING)
            suspend(step, argument > 86400 ? 86400 : (uint32_t)argument);
        break;
    case CONTROL_RESUME:
        resume(step);
        break;
    case CONTROL_SET_LIMIT:
        step->limit_s = (int64_t)(argument & 0xffffffff);
        step->warned = false;
        break;
    default:
        break; /* of a newer helixd */
    }
}

static void read_signals(struct step *step)
{
    struct signalfd_siginfo info[8];
    ssize_t n = read(step->signal_fd, info, sizeof info);
    for (ssize_t i = 0; i < n / (ssize_t)sizeof *info; i++)
        if (info[i].ssi_signo == CONTROL_SIGNAL && info[i].ssi_code == SI_QUEUE &&
            (info[i].ssi_uid == 0 || info[i].ssi_uid == geteuid()))
            obey(step, info[i].ssi_ptr);
}

static void read_start(struct step *step)
{
    ssize_t n = read(step->pipe_fd, &step->failure, sizeof step->failure);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n == (ssize_t)sizeof step->failure)
        step->failure.text[sizeof step->failure.text - 1] = 0;
    else
        memset(&step->failure, 0, sizeof step->failure);
    step->exec_done = step->failure.stage == STAGE_NONE;
    close(step->pipe_fd);
    step->pipe_fd = -1;
}

/* false: no process is left. */
static bool reap(struct step *step)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == step->main) {
            step->main_gone = true;
            step->status = status;
        }
    return pid == 0 || errno != ECHILD;
}

static int64_t limit_at(const struct step *step)
{
    if (step->limit_s == 0 || step->t_suspended || step->phase != RUNNING)
        return NEVER;
    return step->t_start + step->suspended_ns + step->limit_s * SECOND;
}

static int64_t warning_at(const struct step *step)
{
    const struct spec_head *head = &step->spec->head;
    int64_t limit = limit_at(step);
    if (limit == NEVER || !head->warn_signal || step->warned)
        return NEVER;
    return limit - (int64_t)head->warn_before_s * SECOND;
}

static void check_unkillable(struct step *step)
{
    struct procs procs;
    bool found = false;
    if (procs_below(getpid(), &procs))
        for (size_t i = 0; i < procs.count && !found; i++)
            found = proc_describe(procs.pid[i], step->unkillable, sizeof step->unkillable);
    procs_free(&procs);
    step->flags |= ENDED_UNKILLABLE;
}

/* Act on what is due; the time of what is due next. */
static int64_t act_on_time(struct step *step)
{
    int64_t now = now_boot_ns(), next = NEVER;
    if (warning_at(step) <= now) {
        step->warned = true;
        signal_step(step, (int)step->spec->head.warn_signal,
                    step->spec->head.flags & SPEC_WARN_BATCH ? SCOPE_BATCH : SCOPE_CHILDREN);
    }
    if (limit_at(step) <= now) {
        step->flags |= ENDED_TIMED_OUT;
        terminate(step, step->spec->head.kill_wait_s, 0);
    }
    if (step->t_stop && step->t_stop <= now)
        stop_or_go(step, true);
    if (step->phase == TERMINATING && step->t_kill <= now)
        begin_killing(step);
    if (step->phase == KILLING && step->t_round <= now) {
        kill_round(step);
        if (step->t_unkillable <= now)
            check_unkillable(step);
    }
    if (!step->told_started && step->t_start + BORN_AFTER <= now) {
        if (step->exec_done)
            tell_started(step, RECORD_STARTED);
        else if (!step->told_born)
            tell_started(step, RECORD_BORN);
    }
    int64_t due[] = {
        warning_at(step),
        limit_at(step),
        step->phase == TERMINATING ? step->t_kill : NEVER,
        step->phase == KILLING ? step->t_round : NEVER,
        step->t_stop ? step->t_stop : NEVER,
        !step->told_born ? step->t_start + BORN_AFTER : NEVER,
    };
    for (size_t i = 0; i < sizeof due / sizeof *due; i++)
        if (due[i] < next)
            next = due[i];
    return next;
}

static void wait_for_something(struct step *step, int64_t next)
{
    /* The pipe is looked at whenever something else wakes us, and waited for only when the start takes long: a short
     * script costs one wake-up, its end. */
    struct pollfd fds[3] = {
        {step->signal_fd, POLLIN, 0}, {step->told_born ? step->pipe_fd : -1, POLLIN, 0}, {-1, POLLIN, 0}};
    int timeout = -1;
    int64_t left = next == NEVER ? NEVER : next - now_boot_ns();
    if (left <= 0) {
        timeout = 0;
    } else if (left < SECOND) {
        timeout = (int)(left / 1000000) + 1;
    } else if (left != NEVER) { /* poll's clock stands still while the machine sleeps, a timerfd's need not */
        if (step->timer_fd < 0)
            step->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
        struct itimerspec at = {.it_value = {next / SECOND, next % SECOND}};
        if (step->timer_fd < 0 || timerfd_settime(step->timer_fd, TFD_TIMER_ABSTIME, &at, NULL) != 0)
            timeout = left / 1000000 < 60000 ? (int)(left / 1000000) + 1 : 60000;
        else
            fds[2].fd = step->timer_fd;
    }
    int ready = poll(fds, 3, timeout);
    if (step->pipe_fd >= 0)
        read_start(step);
    if (ready <= 0)
        return;
    if (fds[0].revents)
        read_signals(step);
    if (fds[2].revents) {
        uint64_t times;
        if (read(step->timer_fd, &times, sizeof times) < 0)
            close(step->timer_fd), step->timer_fd = -1;
    }
}

/* ---- life ---- */

static bool start(struct step *step)
{
    const struct spec *spec = step->spec;
    int error = cgroup_make(spec), pipes[2];
    if (error) {
        step->failure = (struct failure){STAGE_CGROUP, (uint32_t)error, "cannot make the step's cgroup"};
        return false;
    }
    if (pipe2(pipes, O_CLOEXEC) != 0) {
        step->failure = (struct failure){STAGE_SPAWN, (uint32_t)errno, "pipe"};
        return false;
    }
    pid_t self = getpid();
    step->t_start = now_boot_ns();
    step->t_real_start = now_real();
    bool joined;
    step->main = cgroup_fork(spec, &joined);
    if (step->main == 0)
        child_run(spec, pipes[1], self, joined);
    if (step->main < 0) {
        step->failure = (struct failure){STAGE_SPAWN, (uint32_t)errno, "fork"};
        return false;
    }
    close(pipes[1]);
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    step->pipe_fd = pipes[0];
    return true;
}

int step_run(const struct spec *spec, int log_fd)
{
    struct step step = {
        .spec = spec, .log_fd = log_fd, .timer_fd = -1, .pipe_fd = -1, .limit_s = spec->head.limit_s};
    pid_t server = getppid();
    char name[16];
    snprintf(name, sizeof name, "step:%llu", (unsigned long long)spec->head.job_id);
    prctl(PR_SET_NAME, name);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, CONTROL_SIGNAL);
    step.signal_fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    if (step.signal_fd < 0) {
        step.failure = (struct failure){STAGE_SPAWN, (uint32_t)errno, "signalfd"};
    } else if (start(&step)) {
        while (reap(&step)) {
            if (step.main_gone && step.phase == RUNNING)
                begin_killing(&step);
            int64_t next = act_on_time(&step);
            if (step.flags & ENDED_UNKILLABLE)
                break;
            wait_for_something(&step, next);
        }
        if (step.pipe_fd >= 0)
            read_start(&step);
    }
    if (cgroup_saw_oom(spec))
        step.flags |= ENDED_OOM;
    cgroup_remove(spec);
    tell_ended(&step, server);
    return 0;
}
