/* The processes of a step: all descendants of its shepherd, which is their subreaper, so that a process that daemonised
 * itself is still below it.  Read from /proc/PID/task/TID/children. */
#include "shepherd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROCS_MAX 262144

static bool add(struct procs *procs, pid_t pid, pid_t parent)
{
    if (procs->count == PROCS_MAX)
        return true; /* the rest is found by the next round, when these are gone */
    if (procs->count == procs->room) {
        size_t room = procs->room ? procs->room * 2 : 64;
        pid_t *pids = realloc(procs->pid, room * sizeof *pids);
        if (pids != NULL)
            procs->pid = pids;
        pid_t *parents = realloc(procs->parent, room * sizeof *parents);
        if (parents != NULL)
            procs->parent = parents;
        if (pids == NULL || parents == NULL)
            return false;
        procs->room = room;
    }
    procs->pid[procs->count] = pid;
    procs->parent[procs->count++] = parent;
    return true;
}

/* The numbers of one `children` file, which may be longer than the buffer. */
static bool add_children(struct procs *procs, int fd, pid_t parent)
{
    char text[4096];
    pid_t pid = 0;
    ssize_t n;
    while ((n = read(fd, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (text[i] - '0');
            } else if (pid > 0) {
                if (!add(procs, pid, parent))
                    return false;
                pid = 0;
            }
        }
    return pid > 0 ? add(procs, pid, parent) : true;
}

static bool add_below(struct procs *procs, pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        return true; /* gone */
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(tasks)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        char name[300];
        snprintf(name, sizeof name, "%s/children", entry->d_name);
        int fd = openat(dirfd(tasks), name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        ok = add_children(procs, fd, pid);
        close(fd);
    }
    closedir(tasks);
    return ok;
}

bool procs_below(pid_t root, struct procs *out)
{
    memset(out, 0, sizeof *out);
    if (!add_below(out, root))
        return false;
    for (size_t i = 0; i < out->count; i++)
        if (!add_below(out, out->pid[i]))
            return false;
    return true;
}

void procs_free(struct procs *procs)
{
    free(procs->pid);
    free(procs->parent);
    memset(procs, 0, sizeof *procs);
}

/* State and parent from /proc/PID/stat; 0 = gone. */
static char stat_of(pid_t pid, pid_t *parent, char *name, size_t name_size)
{
    char path[32], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    char *open_paren = strchr(text, '('), *close_paren = strrchr(text, ')');
    if (open_paren == NULL || close_paren == NULL || close_paren[1] != ' ')
        return 0;
    if (name_size > 0)
        snprintf(name, name_size, "%.*s", (int)(close_paren - open_paren - 1), open_paren + 1);
    *parent = (pid_t)strtol(close_paren + 4, NULL, 10);
    return close_paren[2];
}

bool proc_describe(pid_t pid, char *text, size_t size)
{
    char name[64] = "?";
    pid_t parent = 0;
    char state = stat_of(pid, &parent, name, sizeof name);
    for (char *at = name; *at; at++)
        if ((unsigned char)*at < 32 || (unsigned char)*at > 126)
            *at = '?';
    snprintf(text, size, "process %d (%s) in state %c", pid, name, state ? state : '?');
    return state != 0 && state != 'Z';
}

/* Signal `pid` if it still has one of the parents it may have: a number may have been given to a stranger meanwhile. */
static bool signal_one(pid_t pid, pid_t parent, int signal)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return false;
    pid_t now = 0;
    char state = stat_of(pid, &now, NULL, 0);
    bool sent = false;
    if (state != 0 && state != 'Z' && (now == parent || now == getpid()))
        sent = syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0) == 0;
    close(fd);
    return sent;
}

static bool catches(pid_t pid, int signal)
{
    char path[32], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    char *at = strstr(text, "\nSigCgt:");
    return at != NULL && strtoull(at + 8, NULL, 16) >> (signal - 1) & 1;
}

bool procs_catch(const struct procs *procs, int signal)
{
    for (size_t i = 0; i < procs->count; i++)
        if (catches(procs->pid[i], signal))
            return true;
    return false;
}

size_t procs_signal(const struct procs *procs, int signal, pid_t only, pid_t but)
{
    size_t sent = 0;
    for (size_t i = 0; i < procs->count; i++) {
        pid_t pid = procs->pid[i];
        if (pid != but && (only == 0 || pid == only))
            sent += signal_one(pid, procs->parent[i], signal);
    }
    return sent;
}
