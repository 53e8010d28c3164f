/* helix-shepherd: what its parts share.
 *
 * helixd starts one `helix-shepherd --serve SPOOL`; that process forks one shepherd for each step it is told of (a fork
 * of a small static process costs a fifth of a fork and exec).  A shepherd is the subreaper of its step, enforces the
 * time limit, ends what is left when the script ends, and appends what happened to the steps log of the spool.  It
 * needs neither helixd nor the serving process once it runs.
 *
 * Layouts here are mirrored by helixd/core/stepspec.py and helixd/core/steplog.py.  All integers little endian.
 */
#ifndef HELIX_SHEPHERD_H
#define HELIX_SHEPHERD_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SPEC_MAGIC 0x31535848u /* "HXS1" */
#define RECORD_MAGIC 0x31525848u /* "HXR1" */
#define SPEC_BYTES_MAX (8u << 20)
#define SPEC_COUNT_MAX 65536u
#define RECORD_TEXT_MAX 512
#define CONTROL_SIGNAL 40 /* a real time signal whose value is op << 56 | argument */

enum spec_flag {
    SPEC_APPEND = 1,      /* open stdout and stderr with O_APPEND instead of O_TRUNC */
    SPEC_ROOT_OK = 2,     /* uid 0 may run */
    SPEC_WARN_BATCH = 4,  /* the warning signal goes to the script only */
    SPEC_AFFINITY = 8,    /* bind to the cores given */
};

struct spec_head {
    uint32_t magic, size; /* size: of everything, head included */
    uint64_t job_id;
    uint64_t mem_bytes; /* limit of the cgroup; 0 = none */
    uint32_t attempt, generation; /* generation: which steps log */
    uint32_t uid, gid;
    uint32_t flags, umask;
    uint32_t limit_s, kill_wait_s; /* limit 0 = none */
    uint32_t warn_signal, warn_before_s;
    uint32_t unkillable_s;
    uint32_t ngroups, ncores, nrlimits, nargs, nenv;
};

struct spec_rlimit {
    uint32_t resource, reserved;
    int64_t soft, hard; /* -1 = infinity */
};

struct spec {
    struct spec_head head;
    const struct spec_rlimit *rlimits;
    const uint32_t *groups, *cores;
    const char *script, *work_dir, *in, *out, *err;
    const char *cg_unified, *cg_memory, *cg_cpuset; /* "" = none */
    char **argv, **envp;
};

/* What stopped a script before its first instruction. */
enum stage {
    STAGE_NONE = 0,
    STAGE_SPAWN,
    STAGE_CGROUP,
    STAGE_LIMITS,
    STAGE_IDENTITY,
    STAGE_WORK_DIR,
    STAGE_STDIN,
    STAGE_STDOUT,
    STAGE_STDERR,
    STAGE_EXEC,
};

struct failure {
    uint32_t stage, error;
    char text[RECORD_TEXT_MAX - 8];
};

enum record_kind {
    RECORD_BORN = 2,    /* a shepherd waits for its script to start */
    RECORD_STARTED = 3, /* the script runs */
    RECORD_ENDED = 4,
    RECORD_LOST = 5, /* the shepherd died without telling the end */
};

enum ended_flag { ENDED_TIMED_OUT = 1, ENDED_OOM = 2, ENDED_TERMINATED = 4, ENDED_UNKILLABLE = 8 };

struct record_head {
    uint32_t magic;
    uint16_t size;
    uint8_t kind, version;
    uint32_t crc; /* of the whole record with this field zero */
    uint32_t attempt;
    uint64_t job_id;
};

struct record_started {
    struct record_head head;
    uint32_t shepherd_pid, main_pid;
    uint64_t shepherd_start; /* field 22 of /proc/PID/stat */
    double t_start;
};

struct record_ended {
    struct record_head head;
    int32_t status; /* as wait(2) gives it */
    uint32_t stage, error, flags;
    double t_start, t_end;
    uint64_t user_us, system_us, max_rss_kib;
    char text[RECORD_TEXT_MAX];
};

struct record_lost {
    struct record_head head;
    int32_t status;
    uint32_t reserved;
};

enum control_op {
    CONTROL_SIGNAL_STEP = 1, /* signal | scope << 8 */
    CONTROL_TERMINATE,       /* kill_wait_s | the signal sent first, 0 = SIGTERM, << 32 */
    CONTROL_SUSPEND,         /* grace_s for processes that catch SIGTSTP */
    CONTROL_RESUME,
    CONTROL_SET_LIMIT, /* seconds from the start, 0 = none */
};

enum scope { SCOPE_BATCH = 0, SCOPE_CHILDREN, SCOPE_ALL };

/* spec.c: point `out` into `data` (which must outlive it).  false: malformed. */
bool spec_parse(char *data, size_t size, struct spec *out);

/* record.c */
void record_seal(struct record_head *head, enum record_kind kind, size_t size, const struct spec_head *spec);
int record_append(int fd, const struct record_head *head); /* 0 or an errno; never leaves half a record valid */
uint64_t process_start_ticks(pid_t pid);                   /* 0 = gone */
double now_real(void);                                     /* epoch seconds */
int64_t now_boot_ns(void);

/* identity.c: 0, or an errno with what it was about in `why` */
int become_user(const struct spec *spec, const char **why);

/* as_user.c */
int as_user(int argc, char **argv);

/* child.c: in the new process; returns only by exec or _exit, telling why through `pipe_fd`. */
_Noreturn void child_run(const struct spec *spec, int pipe_fd, pid_t shepherd, bool joined);

/* procs.c */
struct procs {
    pid_t *pid, *parent;
    size_t count, room;
};
bool procs_below(pid_t root, struct procs *out); /* all descendants, parents first; false: no memory */
void procs_free(struct procs *procs);
size_t procs_signal(const struct procs *procs, int signal, pid_t only, pid_t but); /* how many got it */
bool procs_catch(const struct procs *procs, int signal); /* true if one of them has a handler for it */
bool proc_describe(pid_t pid, char *text, size_t size); /* "process 12 (dd) in state D"; false: it is dead */

/* cgroup.c: best effort except cgroup_make and cgroup_join, which return 0 or an errno */
int cgroup_make(const struct spec *spec);
pid_t cgroup_fork(const struct spec *spec, bool *joined);
int cgroup_join(const struct spec *spec, bool joined);
bool cgroup_kill(const struct spec *spec);
bool cgroup_freeze(const struct spec *spec, bool frozen);
bool cgroup_saw_oom(const struct spec *spec);
void cgroup_remove(const struct spec *spec);

/* step.c: be the shepherd of one step; returns the exit status. */
int step_run(const struct spec *spec, int log_fd);

#endif
