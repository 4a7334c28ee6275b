# shellcheck shell=bash
# Builds /root/d3d12.dll from /root/d3d12.c and the vkd3d in the source of Debian 13's wine, with DXIL. Run as root in a
# Debian 13 that knows its packages' sources (tests/windows/dx12.sh). Exits with 3 where packages cannot be had.
set -euo pipefail
apt-get -qq update || exit 3
apt-get install -y -qq --no-install-recommends xz-utils make gcc flex bison gcc-mingw-w64-x86-64-win32 spirv-headers libvulkan-dev dpkg-dev || exit 3
rm -rf /root/d3d12 && mkdir /root/d3d12 && cd /root/d3d12
apt-get source -qq --download-only wine || exit 3
apt-get -qq download libwine-dev || exit 3
dpkg-deb -x libwine-dev_*.deb headers
tar xf wine_*.orig.tar.xz --strip-components=1 --wildcards '*/libs/vkd3d' '*/include/wine/list.h' '*/include/wine/rbtree.h'
source=libs/vkd3d shader=libs/vkd3d/libs/vkd3d-shader

# Wine's headers of Direct3D, and MinGW's of everything else.
mkdir -p headers_used/{wine,spirv,vulkan} generated objects
for name in d3d12 d3d12sdklayers d3d12shader d3d12video d3dcommon d3dcompiler d3d10 d3d10_1 d3d11 d3d11_1 d3d11shader dxgi dxgi1_2 dxgi1_3 \
    dxgi1_4 dxgi1_5 dxgi1_6 dxgicommon dxgiformat dxgitype; do
    header=headers/usr/include/wine/wine/windows/$name.h
    [ ! -e "$header" ] || cp "$header" headers_used
done
# C11 gives names to no member of these unions; vkd3d's code uses the names of C89.
sed -i -E 's/__C89_NAMELESSUNIONNAME([0-9]*)/u\1/; s/__C89_NAMELESSSTRUCTNAME([0-9]*)/s\1/; s/__C89_NAMELESS //' headers_used/d3d12.h
cp include/wine/list.h include/wine/rbtree.h headers_used/wine
cp -r /usr/include/spirv/* headers_used/spirv
cp -r /usr/include/vulkan/* headers_used/vulkan
cp -r /usr/include/vk_video headers_used
echo '#include <vulkan/vulkan_core.h>' >headers_used/wine/vulkan.h

for language in hlsl preproc; do
    bison -d -o "generated/$language.tab.c" "$shader/$language.y"
    flex -o "generated/$language.yy.c" "$shader/$language.l"
done
export flags="-O1 -w -std=gnu17 -DVKD3D_SHADER_UNSUPPORTED_DXIL -DWINE_NO_NAMELESS_EXTENSION -DNONAMELESSUNION -DNONAMELESSSTRUCT -D__WINESRC__ -D_UCRT \
    -DLIBVKD3D_SOURCE -DLIBVKD3D_SHADER_SOURCE -DLIBVKD3D_UTILS_SOURCE -DVK_NO_PROTOTYPES \
    -Iheaders_used -Igenerated -I$source -I$source/include -I$source/include/private -I$source/libs/vkd3d -I$shader"
printf '%s\n' "$source"/libs/*/*.c generated/*.c |
    xargs -P 2 -I{} sh -c 'x86_64-w64-mingw32-gcc $flags -c {} -o objects/$(echo {} | tr / _).o'
x86_64-w64-mingw32-gcc $flags -shared -o /root/d3d12.dll /root/d3d12.c /root/d3d12.def objects/*.o -lole32 -luuid -ldxguid -ld3dcompiler -static-libgcc
cd /root && rm -rf d3d12
apt-get clean
