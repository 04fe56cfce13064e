;; Resizing by WebAssembly's SIMD instructions, since JavaScript has none: a mean of neighbours is a
;; sum of uint8 pixels times int16 weights in 1 / 2^14, in int32, two neighbours in one instruction.
;; `npm run generate` writes resize-wasm.ts from this file; resize.ts lays out the memory.
;;
;; Addresses and lengths are in bytes. The number of taps is even. Both functions read up to eight
;; bytes and write up to seven bytes too many: what lies behind a picture must not matter.
(module
  (memory (export "memory") 1)

  ;; Every row, RGB, becomes `width` pixels. `first`: int32[width], where the first neighbour of each
  ;; pixel lies in its row; `weights`: int16[width, taps].
  (func (export "shrinkRows")
    (param $from i32) (param $fromLength i32) (param $rows i32)
    (param $to i32) (param $width i32)
    (param $first i32) (param $weights i32) (param $taps i32)
    (local $x i32) (local $at i32) (local $weight i32) (local $end i32) (local $sum v128)
    (local.set $taps (i32.shl (local.get $taps) (i32.const 1)))
    (loop $row
      (local.set $weight (local.get $weights))
      (local.set $x (i32.const 0))
      (loop $pixel
        (local.set $at
          (i32.add
            (local.get $from)
            (i32.load (i32.add (local.get $first) (i32.shl (local.get $x) (i32.const 2))))))
        (local.set $end (i32.add (local.get $weight) (local.get $taps)))
        ;; One half, so that the shift rounds.
        (local.set $sum (v128.const i32x4 8192 8192 8192 8192))
        (loop $pair
          ;; red red' green green' blue blue' 0 0, as int16, times weight weight' weight weight' ...
          (local.set $sum
            (i32x4.add
              (local.get $sum)
              (i32x4.dot_i16x8_s
                (i8x16.shuffle 0 16 3 16 1 16 4 16 2 16 5 16 16 16 16 16
                  (v128.load64_zero align=1 (local.get $at))
                  (v128.const i32x4 0 0 0 0))
                (v128.load32_splat (local.get $weight)))))
          (local.set $at (i32.add (local.get $at) (i32.const 6)))
          (local.set $weight (i32.add (local.get $weight) (i32.const 4)))
          (br_if $pair (i32.lt_u (local.get $weight) (local.get $end))))
        (local.set $sum (i32x4.shr_s (local.get $sum) (i32.const 14)))
        ;; Narrowing clamps: bicubic weights reach below 0 and beyond 255.
        (local.set $sum (i16x8.narrow_i32x4_s (local.get $sum) (local.get $sum)))
        (v128.store32_lane align=1 0
          (local.get $to)
          (i8x16.narrow_i16x8_u (local.get $sum) (local.get $sum)))
        (local.set $to (i32.add (local.get $to) (i32.const 3)))
        (local.set $x (i32.add (local.get $x) (i32.const 1)))
        (br_if $pixel (i32.lt_u (local.get $x) (local.get $width))))
      (local.set $from (i32.add (local.get $from) (local.get $fromLength)))
      (local.set $rows (i32.sub (local.get $rows) (i32.const 1)))
      (br_if $row (local.get $rows))))

  ;; Rows of `length` become `rows` others. `first`: int32[rows], where the first neighbour of each
  ;; begins; `weights`: int16[rows, taps].
  (func (export "mixRows")
    (param $from i32) (param $length i32)
    (param $to i32) (param $rows i32)
    (param $first i32) (param $weights i32) (param $taps i32)
    (local $x i32) (local $at i32) (local $start i32) (local $weight i32) (local $end i32)
    (local $both v128) (local $shares v128) (local $low v128) (local $high v128)
    (local.set $taps (i32.shl (local.get $taps) (i32.const 1)))
    (loop $row
      (local.set $start (i32.add (local.get $from) (i32.load (local.get $first))))
      (local.set $end (i32.add (local.get $weights) (local.get $taps)))
      (local.set $x (i32.const 0))
      ;; Eight bytes at a time, four in each sum.
      (loop $eight
        (local.set $low (v128.const i32x4 8192 8192 8192 8192))
        (local.set $high (local.get $low))
        (local.set $weight (local.get $weights))
        (local.set $at (i32.add (local.get $start) (local.get $x)))
        (loop $pair
          (local.set $shares (v128.load32_splat (local.get $weight)))
          (local.set $both
            (i8x16.shuffle 0 16 1 17 2 18 3 19 4 20 5 21 6 22 7 23
              (v128.load64_zero align=1 (local.get $at))
              (v128.load64_zero align=1 (i32.add (local.get $at) (local.get $length)))))
          (local.set $low
            (i32x4.add
              (local.get $low)
              (i32x4.dot_i16x8_s (i16x8.extend_low_i8x16_u (local.get $both)) (local.get $shares))))
          (local.set $high
            (i32x4.add
              (local.get $high)
              (i32x4.dot_i16x8_s (i16x8.extend_high_i8x16_u (local.get $both)) (local.get $shares))))
          (local.set $at (i32.add (local.get $at) (i32.shl (local.get $length) (i32.const 1))))
          (local.set $weight (i32.add (local.get $weight) (i32.const 4)))
          (br_if $pair (i32.lt_u (local.get $weight) (local.get $end))))
        (local.set $low
          (i16x8.narrow_i32x4_s
            (i32x4.shr_s (local.get $low) (i32.const 14))
            (i32x4.shr_s (local.get $high) (i32.const 14))))
        (v128.store64_lane align=1 0
          (i32.add (local.get $to) (local.get $x))
          (i8x16.narrow_i16x8_u (local.get $low) (local.get $low)))
        (local.set $x (i32.add (local.get $x) (i32.const 8)))
        (br_if $eight (i32.lt_u (local.get $x) (local.get $length))))
      (local.set $to (i32.add (local.get $to) (local.get $length)))
      (local.set $first (i32.add (local.get $first) (i32.const 4)))
      (local.set $weights (local.get $end))
      (local.set $rows (i32.sub (local.get $rows) (i32.const 1)))
      (br_if $row (local.get $rows)))))
