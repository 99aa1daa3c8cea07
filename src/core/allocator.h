/* The caching allocator behind Storage: 64-byte aligned blocks in size classes, each class with a free list.
 *
 * A class is a power of two or one of the three sizes that divide the way to the next evenly, so at most a fifth of a
 * block is unused. Freed blocks stay with us until a quarter of the machine's memory lies idle: a training loop in
 * its steady state asks the operating system for nothing. All calls are made with the GIL held.
 */
#ifndef FASTGRAD_ALLOCATOR_H
#define FASTGRAD_ALLOCATOR_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

enum { FG_ALIGNMENT = 64, FG_SMALLEST_CLASS = 6, FG_SIZE_CLASSES = 4 * (48 - FG_SMALLEST_CLASS) };

typedef struct fg_block { struct fg_block *next; } fg_block;

static fg_block *fg_free_blocks[FG_SIZE_CLASSES];
static size_t fg_bytes_in_use, fg_bytes_peak, fg_bytes_idle;

static size_t fg_physical_memory(void) {
    static size_t bytes;
    if (!bytes) {
        long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGE_SIZE);
        bytes = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : (size_t)1 << 33;
    }
    return bytes;
}

/* Sizes 64, 80, 96, 112, 128, 160, ...: two bits below the leading one select the quarter. */
static inline int fg_size_class(size_t size) {
    if (size <= ((size_t)1 << FG_SMALLEST_CLASS)) return 0;
    size_t last = size - 1;
    int exponent = 63 - __builtin_clzll((unsigned long long)last);
    return 4 * (exponent - FG_SMALLEST_CLASS) + (int)((last >> (exponent - 2)) & 3) + 1;
}

static inline size_t fg_class_size(int size_class) {
    int exponent = size_class / 4 + FG_SMALLEST_CLASS;
    return (size_t)(4 + size_class % 4) << (exponent - 2);
}

static void fg_release_idle(void) {
    for (int c = 0; c < FG_SIZE_CLASSES; c++)
        while (fg_free_blocks[c]) {
            fg_block *block = fg_free_blocks[c];
            fg_free_blocks[c] = block->next;
            free(block);
        }
    fg_bytes_idle = 0;
}

/* NULL when there is not so much memory; an out-of-reach size is refused before anything is asked of the system. */
static void *fg_allocate(size_t size, int *size_class) {
    if (size > fg_physical_memory()) return NULL;
    int c = *size_class = fg_size_class(size);
    size_t bytes = fg_class_size(c);
    fg_block *block = fg_free_blocks[c];
    if (block) {
        fg_free_blocks[c] = block->next;
        fg_bytes_idle -= bytes;
    } else {
        void *memory = NULL;
        if (posix_memalign(&memory, FG_ALIGNMENT, bytes)) {
            fg_release_idle();
            if (posix_memalign(&memory, FG_ALIGNMENT, bytes)) return NULL;
        }
        block = memory;
    }
    fg_bytes_in_use += bytes;
    if (fg_bytes_in_use > fg_bytes_peak) fg_bytes_peak = fg_bytes_in_use;
    return block;
}

static void fg_deallocate(void *memory, int size_class) {
    size_t bytes = fg_class_size(size_class);
    fg_bytes_in_use -= bytes;
    if (fg_bytes_idle + bytes > fg_physical_memory() / 4) {
        free(memory);
        return;
    }
    fg_block *block = memory;
    block->next = fg_free_blocks[size_class];
    fg_free_blocks[size_class] = block;
    fg_bytes_idle += bytes;
}

#endif
