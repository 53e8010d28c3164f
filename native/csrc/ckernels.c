/* Small system calls that Python 3.11 has no word for.  Compiled into helix_native._ckernels by cffi. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int hx_pidfd_queue(int pidfd, int signal, uint64_t value)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signal;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = geteuid();
    info.si_value.sival_ptr = (void *)(uintptr_t)value;
    return syscall(SYS_pidfd_send_signal, pidfd, signal, &info, 0) == 0 ? 0 : -errno;
}

static int hx_inotify_init(void)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    return fd >= 0 ? fd : -errno;
}

static int hx_inotify_watch(int fd, const char *path)
{
    int watch = inotify_add_watch(fd, path, IN_MODIFY);
    return watch >= 0 ? watch : -errno;
}

static int hx_become_subreaper(void)
{
    return prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 ? 0 : -errno;
}

static int hx_reserve(int fd, int64_t bytes)
{
    return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0 ? 0 : -errno;
}
