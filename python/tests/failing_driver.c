/* A Vulkan driver that fails on request, for test_gpu.py: the driver in the library MEDDINO_TEST_DRIVER, except that the
   function that MEDDINO_TEST_FAILS names answers with an error. Both are variables of the environment, of which the
   second is read at each call.

       cc -shared -fPIC -o failing_driver.so failing_driver.c */

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT_OF_DEVICE_MEMORY = -2, DEVICE_LOST = -4 };

typedef void (*Function)(void);
typedef Function (*Lookup)(void *object, const char *name);
typedef int (*Submit)(void *queue, uint32_t count, const void *submits, uint64_t fence);
typedef int (*Allocate)(void *device, const void *wanted, const void *allocator, uint64_t *memory);

static Lookup of_device;
static Submit submit;
static Allocate allocate;

/* The function NAME of the driver's library. */
static void *driver(const char *name) {
    static void *library;
    if (!library) library = dlopen(getenv("MEDDINO_TEST_DRIVER"), RTLD_NOW | RTLD_LOCAL);
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) {
        fprintf(stderr, "failing_driver: MEDDINO_TEST_DRIVER names no Vulkan driver: %s\n", dlerror());
        abort();
    }
    return found;
}

static int fails(const char *name) {
    const char *named = getenv("MEDDINO_TEST_FAILS");
    return named && !strcmp(named, name);
}

static int our_submit(void *queue, uint32_t count, const void *submits, uint64_t fence) {
    return fails("vkQueueSubmit") ? DEVICE_LOST : submit(queue, count, submits, fence);
}

static int our_allocate(void *device, const void *wanted, const void *allocator, uint64_t *memory) {
    return fails("vkAllocateMemory") ? OUT_OF_DEVICE_MEMORY : allocate(device, wanted, allocator, memory);
}

static Function our_lookup(void *device, const char *name);

/* Returns our function in the place of FOUND, which is the driver's function NAME, or FOUND. */
static Function ours(const char *name, Function found) {
    if (!found) return found;
    if (!strcmp(name, "vkGetDeviceProcAddr")) return of_device = (Lookup)found, (Function)our_lookup;
    if (!strcmp(name, "vkQueueSubmit")) return submit = (Submit)found, (Function)our_submit;
    if (!strcmp(name, "vkAllocateMemory")) return allocate = (Allocate)found, (Function)our_allocate;
    return found;
}

static Function our_lookup(void *device, const char *name) {
    return ours(name, of_device(device, name));
}

/* What Vulkan's loader asks a driver for. */

Function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
    return ours(name, ((Lookup)driver("vk_icdGetInstanceProcAddr"))(instance, name));
}

Function vk_icdGetPhysicalDeviceProcAddr(void *instance, const char *name) {
    return ((Lookup)driver("vk_icdGetPhysicalDeviceProcAddr"))(instance, name);
}

int vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
    return ((int (*)(uint32_t *))driver("vk_icdNegotiateLoaderICDInterfaceVersion"))(version);
}
