/* ec_flash_file.h: flash in a file, for hosts with POSIX. */
#ifndef EC_FLASH_FILE_H
#define EC_FLASH_FILE_H

#include "ec_flash.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const ec_flash_geometry *geometry;
    int descriptor; /* of a file that is open for reading and writing */
} ec_flash_file;

/*
 * `file` is used for as long as the driver is. A file shorter than the flash, an empty one too,
 * holds no record and grows as sectors are erased.
 */
ec_flash ec_flash_in_file(ec_flash_file *file);

#ifdef __cplusplus
}
#endif

#endif
