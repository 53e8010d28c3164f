/* What happens between fork and exec, in this order: session, signals, descriptors, cgroup, binding, limits, identity
 * (read back; whatever fails is fatal), then, as the user: parent-death signal, umask, working directory, stdio, exec.
 * Paths of the user are never touched before the process is the user. */
#include "shepherd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int report_fd;

static _Noreturn void fail(enum stage stage, int error, const char *text)
{
    struct failure failure = {.stage = stage, .error = (uint32_t)error};
    snprintf(failure.text, sizeof failure.text, "%s", text);
    ssize_t n = write(report_fd, &failure, sizeof failure); /* less than PIPE_BUF: all or nothing */
    _exit(n == (ssize_t)sizeof failure ? 126 : 125);
}

/* Cores that the machine does not have are left out: a node may claim more than there are. */
static void bind_cores(const struct spec *spec)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (uint32_t i = 0; i < spec->head.ncores; i++)
        if (spec->cores[i] < CPU_SETSIZE)
            CPU_SET(spec->cores[i], &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0 && errno != EINVAL)
        fail(STAGE_LIMITS, errno, "CPU binding");
}

/* The submitter's soft limits.  A limit above what this node allows is cut to that. */
static void set_limits(const struct spec *spec)
{
    for (uint32_t i = 0; i < spec->head.nrlimits; i++) {
        const struct spec_rlimit *want = &spec->rlimits[i];
        struct rlimit now, limit;
        char text[64];
        snprintf(text, sizeof text, "resource limit %u", want->resource);
        if (want->resource >= RLIM_NLIMITS || getrlimit((int)want->resource, &now) != 0)
            fail(STAGE_LIMITS, EINVAL, text);
        limit.rlim_cur = want->soft < 0 ? RLIM_INFINITY : (rlim_t)want->soft;
        limit.rlim_max = want->hard < 0 ? RLIM_INFINITY : (rlim_t)want->hard;
        if (limit.rlim_max > now.rlim_max)
            limit.rlim_max = now.rlim_max;
        if (limit.rlim_cur > limit.rlim_max)
            limit.rlim_cur = limit.rlim_max;
        if (setrlimit((int)want->resource, &limit) != 0)
            fail(STAGE_LIMITS, errno, text);
    }
}

static void put_at(int fd, int wanted, enum stage stage, const char *path)
{
    if (fd == wanted) {
        if (fcntl(fd, F_SETFD, 0) != 0)
            fail(stage, errno, path);
    } else if (dup2(fd, wanted) < 0) {
        fail(stage, errno, path);
    }
}

static void open_stdio(const struct spec *spec)
{
    int how = O_WRONLY | O_CREAT | O_NOCTTY | O_CLOEXEC | (spec->head.flags & SPEC_APPEND ? O_APPEND : O_TRUNC);
    int in = open(spec->in, O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (in < 0)
        fail(STAGE_STDIN, errno, spec->in);
    put_at(in, 0, STAGE_STDIN, spec->in);
    int out = open(spec->out, how, 0666);
    if (out < 0)
        fail(STAGE_STDOUT, errno, spec->out);
    put_at(out, 1, STAGE_STDOUT, spec->out);
    int err = 1;
    if (strcmp(spec->out, spec->err) != 0) {
        err = open(spec->err, how, 0666);
        if (err < 0)
            fail(STAGE_STDERR, errno, spec->err);
    }
    put_at(err, 2, STAGE_STDERR, spec->err);
}

/* The last entries of the environment may be NAME_TASK_PID= with ten places: they get this process's number. */
static void set_task_pid(const struct spec *spec)
{
    static const char tail[] = "_TASK_PID=0000000000";
    for (uint32_t i = spec->head.nenv, seen = 0; i > 0 && seen < 2; i--, seen++) {
        char *entry = spec->envp[i - 1];
        size_t length = strlen(entry);
        if (length >= sizeof tail && strcmp(entry + length - (sizeof tail - 1), tail) == 0)
            snprintf(entry + length - 10, 11, "%d", getpid());
    }
}

_Noreturn void child_run(const struct spec *spec, int pipe_fd, pid_t shepherd, bool joined)
{
    report_fd = pipe_fd;
    setsid();
    sigset_t none; /* dispositions are the default ones already: the server reset them and nobody changed them */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
    int error = cgroup_join(spec, joined);
    if (error)
        fail(STAGE_CGROUP, error, "cannot join the step's cgroup");
    if (spec->head.flags & SPEC_AFFINITY && spec->head.ncores)
        bind_cores(spec);
    set_limits(spec);
    const char *why = "";
    int refused = become_user(spec, &why);
    if (refused)
        fail(STAGE_IDENTITY, refused, why);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* after setresuid, which clears it */
    if (getppid() != shepherd)
        _exit(125);
    umask(spec->head.umask & 0777);
    if (chdir(spec->work_dir) != 0)
        fail(STAGE_WORK_DIR, errno, spec->work_dir);
    open_stdio(spec);
    set_task_pid(spec);
    execve(spec->script, spec->argv, spec->envp);
    fail(STAGE_EXEC, errno, spec->script);
}
