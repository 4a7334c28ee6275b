// Compiles HLSL by Microsoft's compilers with wgpu's flags for DX12. `hlsl.exe COMPILER.DLL` compiles every file *.hlsl of the
// current folder, its entry point `main`: by dxcompiler.dll (DXC) as a compute shader of model 6.2 with 16-bit types, by
// d3dcompiler_47.dll (FXC) as one of model 5.1. Prints what is wrong, how many files compile, and which one took longest.
// Exits with 1 if one does not compile, and with 2 if there is no compiler or no file.
//
// The interfaces are those of the public dxcapi.h and d3dcompiler.h: functions by their place in an object's table.
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

typedef struct { const void *text; SIZE_T size; UINT encoding; } Buffer; // DxcBuffer
typedef struct { void **functions; } Object;

static const GUID COMPILER = {0x73e22d93, 0xe6ce, 0x47f3, {0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0}};
static const GUID COMPILER3 = {0x228b4687, 0x5a6a, 0x4730, {0x90, 0x0c, 0x97, 0x02, 0xb2, 0x20, 0x3f, 0x54}};
static const GUID RESULT = {0x58346cda, 0xdde7, 0x4497, {0x94, 0x61, 0x6f, 0x87, 0xaf, 0x5e, 0x06, 0x59}};

typedef HRESULT (WINAPI *Fxc)(const void *, SIZE_T, const char *, const void *, void *, const char *, const char *, UINT, UINT, Object **, Object **);
typedef HRESULT (*Create)(const GUID *, const GUID *, void **);
typedef HRESULT (*Compile)(Object *, const Buffer *, const WCHAR **, UINT, void *, const GUID *, void **);
typedef HRESULT (*Status)(Object *, HRESULT *);
typedef HRESULT (*Blob)(Object *, Object **);
typedef const void *(*Pointer)(Object *);
typedef SIZE_T (*Size)(Object *);
typedef ULONG (*Release)(Object *);

enum { RELEASE = 2, COMPILE = 3, STATUS = 3, RESULT_BLOB = 4, ERRORS = 5, BLOB_POINTER = 3, BLOB_SIZE = 4 };
enum { ENABLE_STRICTNESS = 1 << 11 }; // D3DCOMPILE_ENABLE_STRICTNESS

static void release(Object *object) {
    if (object) ((Release)object->functions[RELEASE])(object);
}

static void print(const char *name, Object *blob) {
    int size = ((Size)blob->functions[BLOB_SIZE])(blob);
    printf("%s: %.*s\n", name, size, (const char *)((Pointer)blob->functions[BLOB_POINTER])(blob));
}

static char *contents(const char *name, SIZE_T *size) {
    FILE *file = fopen(name, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *size = ftell(file);
    rewind(file);
    char *text = malloc(*size + 1);
    *size = fread(text, 1, *size, file);
    fclose(file);
    return text;
}

static HRESULT by_dxc(Object *compiler, const Buffer *buffer, Object **code, Object **errors) {
    const WCHAR *arguments[] = {L"-E", L"main", L"-T", L"cs_6_2", L"-HV", L"2018", L"-no-warnings", L"-Ges", L"-enable-16bit-types"};
    Object *result = NULL;
    HRESULT status = ((Compile)compiler->functions[COMPILE])(compiler, buffer, arguments, 9, NULL, &RESULT, (void **)&result);
    if (FAILED(status)) return status;
    ((Status)result->functions[STATUS])(result, &status);
    ((Blob)result->functions[RESULT_BLOB])(result, code);
    ((Blob)result->functions[ERRORS])(result, errors);
    release(result);
    return status;
}

static int compiles(Fxc fxc, Object *dxc, const char *name) {
    Buffer buffer = {0};
    buffer.encoding = CP_UTF8;
    buffer.text = contents(name, &buffer.size);
    if (!buffer.text) {
        printf("%s: cannot be read\n", name);
        return 0;
    }
    Object *code = NULL, *errors = NULL;
    HRESULT status = fxc ? fxc(buffer.text, buffer.size, NULL, NULL, NULL, "main", "cs_5_1", ENABLE_STRICTNESS, 0, &code, &errors)
                         : by_dxc(dxc, &buffer, &code, &errors);
    int fine = SUCCEEDED(status) && code && ((Size)code->functions[BLOB_SIZE])(code) > 0;
    if (!fine && errors) print(name, errors);
    if (!fine && !errors) printf("%s: error %lx\n", name, status);
    release(code);
    release(errors);
    free((void *)buffer.text);
    return fine;
}

int main(int count, char **names) {
    HMODULE library = count == 2 ? LoadLibraryA(names[1]) : NULL;
    Fxc fxc = library ? (Fxc)(void *)GetProcAddress(library, "D3DCompile") : NULL;
    Create create = library ? (Create)(void *)GetProcAddress(library, "DxcCreateInstance") : NULL;
    Object *dxc = NULL;
    if (create) create(&COMPILER, &COMPILER3, (void **)&dxc);
    WIN32_FIND_DATAA file;
    HANDLE files = FindFirstFileA("*.hlsl", &file);
    if ((!fxc && !dxc) || files == INVALID_HANDLE_VALUE) {
        printf("hlsl.exe: no compiler, or no *.hlsl here; usage: hlsl.exe COMPILER.DLL\n");
        return 2;
    }
    int all = 0, fine = 0;
    ULONGLONG longest = 0;
    char slowest[MAX_PATH] = "";
    do {
        ULONGLONG start = GetTickCount64();
        all++;
        fine += compiles(fxc, dxc, file.cFileName);
        ULONGLONG took = GetTickCount64() - start;
        if (took > longest) {
            longest = took;
            lstrcpynA(slowest, file.cFileName, MAX_PATH);
        }
    } while (FindNextFileA(files, &file));
    printf("%d of %d files compile, the longest in %.1f s: %s\n", fine, all, longest / 1000.0, slowest);
    return fine < all;
}
