"""cffi build of helix_native._ckernels: system calls that Python 3.11 has no word for.  Source: csrc/ckernels.c."""

from pathlib import Path

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef(
    """
    int hx_pidfd_queue(int pidfd, int signal, uint64_t value);
    int hx_inotify_init(void);
    int hx_inotify_watch(int fd, const char *path);
    int hx_become_subreaper(void);
    int hx_reserve(int fd, int64_t bytes);
    """
)
ffibuilder.set_source(
    "helix_native._ckernels",
    (Path(__file__).parent / "csrc" / "ckernels.c").read_text(encoding="utf-8"),
    extra_compile_args=["-O2", "-Wall", "-Wextra"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
