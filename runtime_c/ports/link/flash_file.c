/*
 * flash_file.c: ec_link_port_flash on a workstation: sectors in the file that the environment's
 * EDGEC_FLASH names, edgec.flash in the working folder where it names none.
 */
#define _POSIX_C_SOURCE 200809L

#include "ec_flash_file.h"
#include "ec_link_port.h"
#include "model_train.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static const ec_flash_run runs[] = {{EC_FLASH_SECTOR_BYTES, EC_FLASH_SECTORS}};
static const ec_flash_geometry geometry = {runs, 1, 4, 0xFF};
static ec_flash_file file;
static ec_flash flash;

const ec_flash *ec_link_port_flash(void) {
    const char *path = getenv("EDGEC_FLASH");
    file.geometry = &geometry;
    file.descriptor = open(path != NULL ? path : "edgec.flash", O_RDWR | O_CREAT, 0644);
    if (file.descriptor < 0) {
        perror(path != NULL ? path : "edgec.flash"); /* the host shows a program's last words */
        return NULL;
    }
    flash = ec_flash_in_file(&file);
    return &flash;
}
