/* What wine 8 lacks of bcryptprimitives.dll: random numbers, which Rust's std asks for when a program starts. */
#include <windows.h>
#include <ntsecapi.h>

BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) { return RtlGenRandom(data, (ULONG)length); }
