/*
 * semihost.h: Arm semihosting (Semihosting for AArch32 and AArch64, version 3) on M-profile:
 * BKPT 0xAB.
 */
#ifndef EC_SEMIHOST_H
#define EC_SEMIHOST_H

void ec_semihost_write0(const char *text);
__attribute__((noreturn)) void ec_semihost_exit(int code);

#endif
