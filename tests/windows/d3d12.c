// A d3d12.dll over vkd3d, for tests: a device on the Vulkan device that vkd3d prefers, and the root signatures that wgpu serialises.
// tests/windows/d3d12.sh links it with the vkd3d of wine's source.
#define COBJMACROS
#define INITGUID
#include <windows.h>
#include <vkd3d.h>

static HRESULT signal_event(HANDLE event)
{
    return SetEvent(event) ? S_OK : E_FAIL;
}

HRESULT WINAPI D3D12CreateDevice(IUnknown *adapter, D3D_FEATURE_LEVEL least, REFIID interface_id, void **device)
{
    (void)adapter;
    HMODULE vulkan = LoadLibraryA("vulkan-1.dll");
    struct vkd3d_application_info application = {
        .type = VKD3D_STRUCTURE_TYPE_APPLICATION_INFO,
        .api_version = VKD3D_API_VERSION_1_2,
    };
    struct vkd3d_instance_create_info instance_info = {
        .type = VKD3D_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .next = &application,
        .pfn_signal_event = signal_event,
        .wchar_size = sizeof(WCHAR),
        .pfn_vkGetInstanceProcAddr = (void *)GetProcAddress(vulkan, "vkGetInstanceProcAddr"),
    };
    struct vkd3d_instance *instance;
    HRESULT result = vkd3d_create_instance(&instance_info, &instance);
    if (FAILED(result))
        return result;
    struct vkd3d_device_create_info device_info = {
        .type = VKD3D_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .minimum_feature_level = least,
        .instance = instance,
    };
    result = vkd3d_create_device(&device_info, interface_id, device);
    // The device keeps the instance.
    vkd3d_instance_decref(instance);
    return result;
}

// There are no debug layers.
HRESULT WINAPI D3D12GetDebugInterface(REFIID interface_id, void **debug)
{
    (void)interface_id;
    (void)debug;
    return 0x887a002d; // DXGI_ERROR_SDK_COMPONENT_MISSING
}

HRESULT WINAPI D3D12SerializeRootSignature(const D3D12_ROOT_SIGNATURE_DESC *signature, D3D_ROOT_SIGNATURE_VERSION version,
                                           ID3DBlob **blob, ID3DBlob **error)
{
    return vkd3d_serialize_root_signature(signature, version, blob, error);
}

HRESULT WINAPI D3D12SerializeVersionedRootSignature(const D3D12_VERSIONED_ROOT_SIGNATURE_DESC *signature, ID3DBlob **blob,
                                                    ID3DBlob **error)
{
    return vkd3d_serialize_versioned_root_signature(signature, blob, error);
}
