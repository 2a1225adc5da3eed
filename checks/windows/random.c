/* wine 8 has no bcryptprimitives.dll, from which Rust's standard library takes random bytes. */
#include <stddef.h>
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(void *bytes, ULONG count);
__declspec(dllexport) BOOL WINAPI ProcessPrng(unsigned char *bytes, size_t count) {
    return SystemFunction036(bytes, (ULONG)count);
}
