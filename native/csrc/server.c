/* helix-shepherd --serve SPOOL: forks a shepherd for each step described on descriptor 3, and reaps them.
 *
 * Started by helixd, which holds the other end of the socket; at its end the server exits and the shepherds go on by
 * themselves.  A shepherd that is killed leaves its step's processes to the server (also a subreaper), which kills them
 * and appends RECORD_LOST. */
#include "shepherd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET 3
#define BUFFER_KEPT (256u << 10)
#define REST_MS 10

struct entry { /* a shepherd; pid 0 = lost and not yet told */
    pid_t pid;
    uint32_t attempt;
    uint64_t job_id;
    int status;
};

static struct {
    struct entry *entries;
    size_t count, room, lost;
    char *buffer;
    size_t have, size;
    int log_fd;
    uint32_t generation;
    int signal_fd;
} server = {.log_fd = -1, .signal_fd = -1};

static void die(const char *what)
{
    fprintf(stderr, "helix-shepherd: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void open_log(uint32_t generation)
{
    if (server.log_fd >= 0 && server.generation == generation)
        return;
    char name[40];
    snprintf(name, sizeof name, "steps.%u.log", generation);
    int fd = open(name, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        die(name); /* helixd makes it before it asks */
    if (server.log_fd >= 0)
        close(server.log_fd);
    server.log_fd = fd;
    server.generation = generation;
}

static void tell_unstarted(const struct spec_head *head, int error)
{
    struct record_ended record = {.stage = STAGE_SPAWN, .error = (uint32_t)error, .t_end = now_real()};
    strcpy(record.text, "fork");
    record_seal(&record.head, RECORD_ENDED, offsetof(struct record_ended, text) + 4, head);
    for (int tries = 0; record_append(server.log_fd, &record.head) != 0 && tries < 100; tries++)
        usleep(50000);
}

static struct entry *new_entry(void)
{
    if (server.count == server.room) {
        size_t room = server.room ? server.room * 2 : 256;
        struct entry *entries = realloc(server.entries, room * sizeof *entries);
        if (entries == NULL)
            return NULL;
        server.entries = entries;
        server.room = room;
    }
    return &server.entries[server.count];
}

static void start_step(char *data, size_t size)
{
    struct spec spec;
    if (!spec_parse(data, size, &spec)) {
        errno = EINVAL;
        die("a step's description");
    }
    open_log(spec.head.generation);
    struct entry *entry = new_entry();
    pid_t pid = entry == NULL ? -1 : fork();
    if (pid == 0) {
        close(SOCKET);
        close(server.signal_fd);
        _exit(step_run(&spec, server.log_fd));
    }
    if (pid < 0)
        tell_unstarted(&spec.head, entry == NULL ? ENOMEM : errno);
    else
        server.count++, *entry = (struct entry){pid, spec.head.attempt, spec.head.job_id, 0};
    free(spec.argv);
    free(spec.envp);
}

/* Fork for all complete descriptions in the buffer. */
static void start_steps(void)
{
    size_t at = 0;
    while (server.have - at >= sizeof(struct spec_head)) {
        struct spec_head head;
        memcpy(&head, server.buffer + at, sizeof head);
        if (head.magic != SPEC_MAGIC || head.size < sizeof head || head.size > SPEC_BYTES_MAX) {
            errno = EPROTO;
            die("the socket from helixd");
        }
        if (server.have - at < head.size) {
            if (server.size < head.size) {
                char *buffer = realloc(server.buffer, head.size);
                if (buffer == NULL)
                    die("a step's description");
                server.buffer = buffer;
                server.size = head.size;
            }
            break;
        }
        start_step(server.buffer + at, head.size);
        at += head.size;
    }
    server.have -= at;
    memmove(server.buffer, server.buffer + at, server.have);
    if (server.have == 0 && server.size > BUFFER_KEPT) {
        char *buffer = realloc(server.buffer, BUFFER_KEPT);
        if (buffer != NULL)
            server.buffer = buffer, server.size = BUFFER_KEPT;
    }
}

static bool read_socket(void)
{
    ssize_t n = recv(SOCKET, server.buffer + server.have, server.size - server.have, 0);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        return false;
    if (n > 0) {
        server.have += (size_t)n;
        start_steps();
    }
    return true;
}

/* ---- shepherds that ended ---- */

static struct entry *entry_of(pid_t pid)
{
    for (size_t i = 0; i < server.count; i++)
        if (server.entries[i].pid == pid)
            return &server.entries[i];
    return NULL;
}

static void forget(struct entry *entry)
{
    *entry = server.entries[--server.count];
}

static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct entry *entry = entry_of(pid);
        if (entry == NULL)
            continue; /* of a step whose shepherd was killed */
        if (status == 0) {
            forget(entry);
        } else {
            entry->pid = 0;
            entry->status = status;
            server.lost++;
        }
    }
}

/* Kill children that are no shepherds, and what is below them; how many there were. */
static size_t kill_strays(void)
{
    struct procs below;
    size_t strays = 0;
    if (!procs_below(getpid(), &below)) {
        procs_free(&below);
        return 1;
    }
    struct procs chosen = {calloc(below.count + 1, sizeof(pid_t)), calloc(below.count + 1, sizeof(pid_t)), 0, 0};
    if (chosen.pid != NULL && chosen.parent != NULL) {
        for (size_t i = 0; i < below.count; i++) { /* parents come first */
            bool stray = below.parent[i] == getpid() && entry_of(below.pid[i]) == NULL;
            for (size_t k = 0; !stray && k < chosen.count; k++)
                stray = chosen.pid[k] == below.parent[i];
            if (stray) {
                chosen.pid[chosen.count] = below.pid[i];
                chosen.parent[chosen.count++] = below.parent[i];
            }
        }
        strays = chosen.count;
        procs_signal(&chosen, SIGSTOP, 0, 0);
        procs_signal(&chosen, SIGKILL, 0, 0);
    }
    procs_free(&chosen);
    procs_free(&below);
    return strays;
}

static void tell_lost(void)
{
    if (kill_strays() > 0)
        return; /* again in a moment */
    for (size_t i = 0; i < server.count;) {
        struct entry *entry = &server.entries[i];
        struct spec_head head = {.attempt = entry->attempt, .job_id = entry->job_id};
        struct record_lost record = {.status = entry->status};
        record_seal(&record.head, RECORD_LOST, sizeof record, &head);
        if (entry->pid != 0 || record_append(server.log_fd, &record.head) != 0)
            i++;
        else
            server.lost--, forget(entry);
    }
}

static _Noreturn void serve(const char *spool)
{
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } standard = {0}; /* the kernel's own call, because glibc keeps two signals to itself and one may inherit them ignored */
    for (int signal = 1; signal <= 64; signal++)
        syscall(SYS_rt_sigaction, signal, &standard, NULL, sizeof standard.mask);
    sigset_t all, children;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    setsid();
    umask(077);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    server.size = BUFFER_KEPT;
    server.buffer = malloc(server.size);
    server.signal_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    if (server.buffer == NULL || server.signal_fd < 0)
        die("start");
    if (chdir(spool) != 0)
        die(spool);
    if (fcntl(SOCKET, F_SETFD, FD_CLOEXEC) != 0)
        die("descriptor 3");
    for (bool resting = false;;) {
        struct pollfd fds[2] = {{SOCKET, POLLIN, 0}, {resting ? -1 : server.signal_fd, POLLIN, 0}};
        if (poll(fds, 2, resting || server.lost ? REST_MS : -1) < 0 && errno != EINTR)
            die("poll");
        resting = fds[1].revents && !server.lost;
        if (!resting) { /* shepherds that ended during the rest are reaped together */
            struct signalfd_siginfo info[4];
            if (read(server.signal_fd, info, sizeof info) > 0)
                reap();
        }
        if (server.lost)
            tell_lost();
        if (fds[0].revents && !read_socket())
            exit(0);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--serve") == 0)
        serve(argv[2]);
    if (argc > 2 && strcmp(argv[1], "--as") == 0)
        return as_user(argc, argv);
    fprintf(stderr, "helix-shepherd is started by helixd: helix-shepherd --serve SPOOL, with a socket on descriptor 3\n");
    return 2;
}
