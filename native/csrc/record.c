/* Records of the steps log: one write(2) with O_APPEND each, so that many shepherds share a file without a lock, and a
 * checksum, so that a torn one is skipped. */
#include "shepherd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint32_t crc32_of(const unsigned char *data, size_t size)
{
    uint32_t crc = ~0u; /* IEEE 802.3, bitwise: a record is small and there are two a step */
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xedb88320u & -(crc & 1));
    }
    return ~crc;
}

void record_seal(struct record_head *head, enum record_kind kind, size_t size, const struct spec_head *spec)
{
    head->magic = RECORD_MAGIC;
    head->size = (uint16_t)size;
    head->kind = (uint8_t)kind;
    head->version = 1;
    head->crc = 0;
    head->attempt = spec->attempt;
    head->job_id = spec->job_id;
    head->crc = crc32_of((const unsigned char *)head, size);
}

int record_append(int fd, const struct record_head *head)
{
    ssize_t n;
    do
        n = write(fd, head, head->size);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno;
    return n == head->size ? 0 : ENOSPC; /* half a record: the reader skips it, the caller appends it again */
}

uint64_t process_start_ticks(pid_t pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    char *at = strrchr(text, ')'); /* the name may hold anything; what follows starts with field 3 */
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

double now_real(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int64_t now_boot_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
