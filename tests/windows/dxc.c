// Compiles HLSL by Microsoft's DXC as wgpu does it for DX12. `dxc.exe DXCOMPILER.DLL` compiles every file *.hlsl of the
// current folder: its entry point `main`, as a compute shader of model 6.2 with 16-bit types. Prints what is wrong, and
// how many files compile. Exits with 1 if one does not, and with 2 if there is no compiler or no file.
//
// The interfaces are those of DXC's public dxcapi.h: functions by their place in an object's table.
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

typedef struct { const void *text; SIZE_T size; UINT encoding; } Buffer; // DxcBuffer
typedef struct { void **functions; } Object;

static const GUID COMPILER = {0x73e22d93, 0xe6ce, 0x47f3, {0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0}};
static const GUID COMPILER3 = {0x228b4687, 0x5a6a, 0x4730, {0x90, 0x0c, 0x97, 0x02, 0xb2, 0x20, 0x3f, 0x54}};
static const GUID RESULT = {0x58346cda, 0xdde7, 0x4497, {0x94, 0x61, 0x6f, 0x87, 0xaf, 0x5e, 0x06, 0x59}};

typedef HRESULT (*Create)(const GUID *, const GUID *, void **);
typedef HRESULT (*Compile)(Object *, const Buffer *, const WCHAR **, UINT, void *, const GUID *, void **);
typedef HRESULT (*Status)(Object *, HRESULT *);
typedef HRESULT (*Blob)(Object *, Object **);
typedef const void *(*Pointer)(Object *);
typedef SIZE_T (*Size)(Object *);
typedef ULONG (*Release)(Object *);

enum { RELEASE = 2, COMPILE = 3, STATUS = 3, RESULT_BLOB = 4, ERRORS = 5, BLOB_POINTER = 3, BLOB_SIZE = 4 };

static void release(Object *object) {
    if (object) ((Release)object->functions[RELEASE])(object);
}

// The size of one of a result's blobs, the compiled shader or the errors, which is printed where `name` is given.
static SIZE_T blob(Object *result, int which, const char *name) {
    Object *found = NULL;
    if (FAILED(((Blob)result->functions[which])(result, &found)) || !found) return 0;
    SIZE_T size = ((Size)found->functions[BLOB_SIZE])(found);
    if (name) printf("%s: %.*s\n", name, (int)size, (const char *)((Pointer)found->functions[BLOB_POINTER])(found));
    release(found);
    return size;
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

static int compiles(Object *compiler, const char *name) {
    Buffer buffer = {0};
    buffer.encoding = CP_UTF8;
    buffer.text = contents(name, &buffer.size);
    if (!buffer.text) {
        printf("%s: cannot be read\n", name);
        return 0;
    }
    const WCHAR *arguments[] = {L"-E", L"main", L"-T", L"cs_6_2", L"-HV", L"2018", L"-no-warnings", L"-enable-16bit-types"};
    Object *result = NULL;
    HRESULT status = ((Compile)compiler->functions[COMPILE])(compiler, &buffer, arguments, 8, NULL, &RESULT, (void **)&result);
    if (SUCCEEDED(status)) ((Status)result->functions[STATUS])(result, &status);
    int fine = SUCCEEDED(status) && blob(result, RESULT_BLOB, NULL) > 0;
    if (!fine && result) blob(result, ERRORS, name);
    if (!fine && !result) printf("%s: error %lx\n", name, status);
    release(result);
    free((void *)buffer.text);
    return fine;
}

int main(int count, char **names) {
    HMODULE library = count == 2 ? LoadLibraryA(names[1]) : NULL;
    Create create = library ? (Create)(void *)GetProcAddress(library, "DxcCreateInstance") : NULL;
    Object *compiler = NULL;
    WIN32_FIND_DATAA file;
    HANDLE files = FindFirstFileA("*.hlsl", &file);
    if (!create || FAILED(create(&COMPILER, &COMPILER3, (void **)&compiler)) || files == INVALID_HANDLE_VALUE) {
        printf("dxc.exe: no compiler, or no *.hlsl here; usage: dxc.exe DXCOMPILER.DLL\n");
        return 2;
    }
    int all = 0, fine = 0;
    do {
        all++;
        fine += compiles(compiler, file.cFileName);
    } while (FindNextFileA(files, &file));
    printf("%d of %d files compile\n", fine, all);
    return fine < all;
}
