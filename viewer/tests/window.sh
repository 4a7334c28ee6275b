#!/usr/bin/env bash
# The viewer in a window that nobody sees (Xvfb), on whatever Vulkan there is: the phantom is shown, components and similarity are laid over it, the map follows
# the mouse, labels are painted, followed, corrected and saved, also cut to the body, a scan that is none is refused in words, a window that is closed while the model loads ends
# well, and frames keep coming while features are computed. Screenshots go to the folder that the first argument names (default: target/viewer-test).
# MEDDINO_VIEWER and MEDDINO_COMMAND are the viewer and the command, if they are already built.
#
# xvfb, xdotool and imagemagick are installed where this runs as root, or sudo asks for no password; ends with 3, and says so, where they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/debian.sh
shots=${1:-target/viewer-test}
viewer=${MEDDINO_VIEWER:-}
meddino=${MEDDINO_COMMAND:-}
# The slowest frame, in ms, that the viewer may be the cause of.
slowest=250
has_tools() { for tool in Xvfb xdotool import convert compare; do command -v "$tool" >/dev/null || return 1; done; }
has_tools || debian_install xvfb xdotool imagemagick || true
has_tools || { echo "SKIPPED: the viewer's window, for want of xvfb, xdotool and imagemagick" >&2; exit 3; }
if [ -z "$viewer" ]; then
    cargo build --locked -p meddino-viewer
    viewer=target/debug/meddino-viewer
fi
if [ -z "$meddino" ]; then
    cargo build --locked -p meddino
    meddino=target/debug/meddino
fi
rm -rf "$shots" && mkdir -p "$shots"

width=1100 height=800
# The picture: left of the settings, below what is said above it, above the slider.
picture=800x600+10+90
fail() { echo "FAILED: $*" >&2; tail -n 5 "$shots"/*.log >&2; exit 1; }
# Waits until a command succeeds, at most some seconds.
wait_for() { local seconds=$1; shift; for _ in $(seq $((seconds * 5))); do "$@" && return; sleep 0.2; done; return 1; }

exec 9>"$shots/display"
# Without -noreset it begins anew when its last client leaves, and turns away whoever comes meanwhile.
Xvfb -displayfd 9 -screen 0 "${width}x${height}x24" -nolisten tcp -noreset >"$shots/xvfb.log" 2>&1 &
xvfb=$!
trap 'kill $xvfb $(jobs -p) 2>/dev/null || true' EXIT
is_there() { DISPLAY=:$(cat "$shots/display") && export DISPLAY && xdotool getdisplaygeometry >/dev/null 2>&1; }
wait_for 60 is_there || fail "no display"
unset WAYLAND_DISPLAY
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$shots}

# Takes a picture of the window once it is at rest, because a busy machine shows late what was asked for.
shot() {
    import -window root "$shots/$1.png"
    for _ in $(seq 25); do
        mv "$shots/$1.png" "$shots/cut_before.png"
        sleep 0.3
        import -window root "$shots/$1.png"
        [ "$(compare -metric AE "$shots/cut_before.png" "$shots/$1.png" null: 2>&1)" = 0 ] && return
    done
}
# sees NAME CONDITION: takes pictures until the condition holds.
sees() {
    local name=$1 condition=$2
    is_seen() { shot "$name" && eval "$condition"; }
    wait_for 20 is_seen
}
# Mean saturation of the picture, in thousandths: gray is 0.
saturation() { convert "$shots/$1.png" -crop "${2:-$picture}" -colorspace HSL -channel G -separate -format '%[fx:round(1000*mean)]' info:; }
# Standard deviation of the picture's gray, in thousandths: one colour is 0.
contrast() { convert "$shots/$1.png" -crop "$picture" -colorspace Gray -format '%[fx:round(1000*standard_deviation)]' info:; }
# How many of the picture's pixels differ between two shots.
differ() {
    for name in "$1" "$2"; do convert "$shots/$name.png" -crop "$picture" +repage "$shots/cut_$name.png"; done
    compare -metric AE -fuzz 3% "$shots/cut_$1.png" "$shots/cut_$2.png" null: 2>&1 || true
}
computed() { tail -n 1 "$shots/frames.csv" | cut -d, -f6; }
# Keys go to the window that has the focus, and without a window manager none has it.
key() { xdotool windowfocus --sync "$(xdotool search --onlyvisible --name meddino | sed -n 1p)" key "$@" sleep 0.7; }
# Paints from one place to another.
drag() { xdotool mousemove "$1" "$2" sleep 0.3 mousedown 1 sleep 0.2 mousemove "$3" "$4" sleep 0.2 mouseup 1 sleep 0.7; }
click() { xdotool mousemove "$1" "$2" sleep 0.3 click 1 sleep 0.7; }
start() {
    "$viewer" "$@" --log-frames "$shots/frames.csv" 2>>"$shots/stderr.log" &
    pid=$!
    wait_for 60 xdotool search --onlyvisible --pid "$pid" >/dev/null || wait_for 5 xdotool search --name meddino >/dev/null || fail "no window"
}
stop() { kill "$pid"; wait "$pid" 2>/dev/null || true; }

# Software drivers compile a kernel when it is first run, and everything waits then: the first start fills their cache, the second is measured.
has_features() { [ "$(computed)" = 1 ]; }
start phantom -c seeded:0:tiny --size 896
wait_for 300 has_features || fail "no features at the first start"
stop

start phantom -c seeded:0:tiny --size 896
has_frames() { [ "$(wc -l <"$shots/frames.csv")" -gt 2 ]; }
wait_for 60 has_frames || fail "no frames"
wait_for 120 has_features || fail "no features"
shot slice
[ "$(contrast slice)" -gt 100 ] || fail "no slice: contrast $(contrast slice)"
[ "$(saturation slice)" -lt 20 ] || fail "the slice is not gray: saturation $(saturation slice)"

# The radio buttons, from their labels' places in the settings.
click 868 174
sleep 2
sees components '[ "$(saturation components)" -gt 60 ]' || fail "no components: saturation $(saturation components)"

click 420 300
sees similarity '[ "$(saturation similarity)" -gt 60 ]' || fail "no similarity: saturation $(saturation similarity)"
[ "$(differ components similarity)" -gt 20000 ] || fail "similarity looks like components"
xdotool mousemove 300 420 sleep 1
sees followed '[ "$(differ similarity followed)" -gt 20000 ]' || fail "the map does not follow the mouse: $(differ similarity followed) pixels differ"
click 300 420
xdotool mousemove 500 200 sleep 1
shot held
[ "$(differ followed held)" -lt 20000 ] || fail "the map does not stay where it was held: $(differ followed held) pixels differ"
kill -0 "$pid" || fail "it ended by itself"
stop

awk -F, -v most="$slowest" '
    NR > 1 { frames++; if ($4 > ours) ours = $4 }
    NR > 1 && $3 == 1 { waited++; if ($2 > worst) worst = $2; if ($2 > most) slow++ }
    END {
        printf "%d frames; %d came while features were computed, the slowest after %.0f ms; laying one out took %.0f ms at most\n", frames, waited, worst, ours
        exit !(waited >= 10 && slow == 0)
    }' "$shots/frames.csv" || fail "frames did not keep coming"

start tests/fixtures/nnunet/imagesTs/thick_0000.nii.gz -c seeded:0:tiny --size 224
wait_for 60 has_features || fail "no features of a volume"
shot middle
xdotool mousemove 420 400 click 5 sleep 1.5
shot turned
[ "$(differ middle turned)" -gt 5000 ] || fail "the wheel turns no slice: $(differ middle turned) pixels differ"
# The button below the progress bar.
click 908 375
has_all() { [ "$(computed)" = 5 ]; }
wait_for 120 has_all || fail "$(computed) of 5 slices were computed"
shot volume
stop

# The map of labels is what the command finds with the head, and follows the marks. The model of the window and that of the command run on one device.
scan=tests/fixtures/nnunet/imagesTs/thick_0000.nii.gz
start "$scan" -c seeded:0:tiny --size 224 --device 0 --save-labels "$shots/labels.nii.gz" --save-head "$shots/head.safetensors"
wait_for 60 has_features || fail "no features to label"
key 1
drag 330 300 330 420
key 0
drag 150 150 150 500
sees painted '[ "$(saturation painted)" -gt 40 ]' || fail "two labels give no map: saturation $(saturation painted)"
key Down
has_two() { [ "$(computed)" = 2 ]; }
wait_for 60 has_two || fail "no features of the next slice"
sleep 1
sees carried '[ "$(saturation carried)" -gt 40 ]' || fail "the map does not follow to the next slice: saturation $(saturation carried)"
# A place that the head got wrong is marked as background, which has no colour.
wrong=60x60+40+115
[ "$(saturation carried $wrong)" -gt 100 ] || fail "nothing to correct: saturation $(saturation carried $wrong)"
drag 60 130 110 140
sees corrected '[ "$(saturation corrected $wrong)" -lt 60 ]' || fail "a mark corrects nothing: saturation $(saturation corrected $wrong)"
key ctrl+z
sees undone '[ "$(differ carried undone)" -lt 2000 ]' || fail "what was undone is not as before: $(differ carried undone) pixels differ"
key ctrl+y
sees redone '[ "$(differ corrected redone)" -lt 2000 ]' || fail "what was done again is not as before: $(differ corrected redone) pixels differ"
key ctrl+shift+s
key ctrl+s
has_saved() { [ -f "$shots/head.safetensors" ] && [ -f "$shots/labels.nii.gz" ]; }
wait_for 120 has_saved || fail "label map and head were not saved"
shot saved
MEDDINO_CACHE='' "$meddino" segment --head "$shots/head.safetensors" --weights seeded:0:tiny --backend gpu --device 0 -i "$scan" -o "$shots/command.nii.gz" \
    >"$shots/command.log" 2>&1 || fail "segment --head"
cmp "$shots/labels.nii.gz" "$shots/command.nii.gz" || fail "segment --head finds other labels than the window"
# What was saved may be left without a question; a mark more may not.
drag 600 150 600 300
key ctrl+q
shot asked
kill -0 "$pid" 2>/dev/null || fail "marks that no file has were lost without a question"
[ "$(differ saved asked)" -gt 20000 ] || fail "no question before marks are lost"
stop

# The head that was saved tells a body, label 1, from what is around it. Two other labels, painted over all of the slice, are left on that body alone, as by
# the command; and the file of the body, which is read, is not replaced.
cut=(-c seeded:0:tiny --size 224 --device 0 --foreground "$shots/head.safetensors")
start "$scan" "${cut[@]}" --save-labels "$shots/cut.nii.gz" --save-head "$shots/parts.safetensors"
wait_for 60 has_features || fail "no features to label and cut"
key 2
drag 330 300 330 420
key 3
drag 150 150 150 500
shot cut
key ctrl+shift+s
key ctrl+s
has_cut() { [ -f "$shots/parts.safetensors" ] && [ -f "$shots/cut.nii.gz" ]; }
wait_for 120 has_cut || fail "cut label map and head were not saved"
stop
command=(segment --head "$shots/parts.safetensors" --weights seeded:0:tiny --backend gpu --device 0 -i "$scan")
MEDDINO_CACHE='' "$meddino" "${command[@]}" --foreground "$shots/head.safetensors" -o "$shots/cut_command.nii.gz" >>"$shots/command.log" 2>&1 ||
    fail "segment --foreground"
MEDDINO_CACHE='' "$meddino" "${command[@]}" -o "$shots/uncut.nii.gz" >>"$shots/command.log" 2>&1 || fail "segment --head without a body"
cmp "$shots/cut.nii.gz" "$shots/cut_command.nii.gz" || fail "segment --foreground finds other labels than the window"
! cmp -s "$shots/cut.nii.gz" "$shots/uncut.nii.gz" || fail "--foreground cuts nothing"
# The head has no label 0, so that without the body every pixel had a colour.
around=60x60+100+200
[ "$(saturation cut $around)" -lt 60 ] || fail "the map is not cut to the body: saturation $(saturation cut $around)"

start "$scan" "${cut[@]}" --save-head "$shots/head.safetensors"
wait_for 60 has_features || fail "no features for a head of the body"
before=$(sha256sum <"$shots/head.safetensors")
key 2
drag 330 300 330 420
key 3
drag 150 150 150 500
key ctrl+shift+s
sleep 1
shot kept
[ "$(sha256sum <"$shots/head.safetensors")" = "$before" ] || fail "the head of the body was replaced while it was read"
[ "$(saturation kept 400x30+2+27)" -gt 300 ] || fail "the head of the body was kept without a word"
stop

# A window that is closed while the model is loaded, at several moments, ends as it should.
for seconds in 0.1 0.5 1 2; do
    start phantom -c seeded:0:tiny --size 896
    sleep $seconds
    key ctrl+q
    wait "$pid" || fail "closed after $seconds s of loading, it ended with $?"
done

echo "no scan" >"$shots/broken.nii"
start "$shots/broken.nii" -c seeded:0:tiny
sleep 3
shot refused
kill -0 "$pid" || fail "a scan that is none ended it"
[ "$(saturation refused 400x30+2+27)" -gt 300 ] || fail "a scan that is none was not refused in words"
stop
rm -f "$shots/display" "$shots"/cut_*
echo "the viewer shows, compares, labels and refuses; screenshots in $shots"
