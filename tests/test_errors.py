"""Bad input: the device raises the class of error that TensorFlow's CPU kernel raises."""

import numpy as np
import pytest
import tensorflow as tf

from tests import spine

R = tf.raw_ops


def f(*shape):
    return tf.ones(shape)


def lstm(op, x, **changed):
    """A block LSTM of 4 features, 5 units and a batch of 2, with some arguments changed."""
    names = ["cs_prev", "h_prev", "wci", "wcf", "wco"]
    args = dict(zip(names, [f(2, 5)] * 2 + [f(5)] * 3, strict=True))
    args |= {"x": f(*x), "w": f(9, 20), "b": f(20)}
    if "grad" in op.__name__:
        names = ["i", "cs", "f", "o", "ci", "co", "cs_grad", "h_grad"]
        args |= {name: f(*x[:-1], 5) for name in [*names, *(["h"] if len(x) == 3 else [])]}
        args |= {"use_peephole": False}
    if len(x) == 3:
        args |= {"seq_len_max": tf.constant(x[0], tf.int64)}
    return op(**{**args, **changed})


def gru(op, **changed):
    args = {"x": f(2, 4), "h_prev": f(2, 5), "w_ru": f(9, 10), "w_c": f(9, 5)}
    args |= {"b_ru": f(10), "b_c": f(5)}
    if op is R.GRUBlockCellGrad:
        args |= {name: f(2, 5) for name in ["r", "u", "c", "d_h"]}
    return op(**{**args, **changed})


_BAD = {
    "matmul_inner": lambda: R.MatMul(a=f(2, 3), b=f(4, 5)),
    "matmul_rank": lambda: R.MatMul(a=f(2, 3, 4), b=f(4, 5)),
    "add_shapes": lambda: R.AddV2(x=f(2, 3), y=f(4, 3)),
    "add_n_shapes": lambda: R.AddN(inputs=[f(2), f(3)]),
    "bias_length": lambda: R.BiasAdd(value=f(2, 3), bias=f(4)),
    "bias_rank": lambda: R.BiasAdd(value=f(3), bias=f(3)),
    "sum_axis": lambda: R.Sum(input=f(2, 3), axis=[2]),
    "sum_axis_twice": lambda: R.Sum(input=f(2, 3), axis=[0, 0]),
    "argmax_axis": lambda: R.ArgMax(input=f(2, 3), dimension=5),
    "argmax_empty": lambda: R.ArgMax(input=f(2, 0), dimension=1),
    "transpose_perm": lambda: R.Transpose(x=f(2, 3), perm=[0, 0]),
    "transpose_length": lambda: R.Transpose(x=f(2, 3), perm=[0]),
    "concat_axis": lambda: R.ConcatV2(values=[f(2), f(2)], axis=3),
    "concat_shapes": lambda: R.ConcatV2(values=[f(2, 2), f(2, 3)], axis=0),
    "slice_range": lambda: R.Slice(input=f(3), begin=[2], size=[5]),
    "stride_zero": lambda: R.StridedSlice(input=f(3), begin=[0], end=[3], strides=[0]),
    "shrink_range": lambda: R.StridedSlice(
        input=f(3), begin=[7], end=[8], strides=[1], shrink_axis_mask=1
    ),
    "split_uneven": lambda: R.Split(axis=0, value=f(5), num_split=2),
    "fill_negative": lambda: R.Fill(dims=[-1], value=tf.constant(1.0)),
    "tile_length": lambda: R.Tile(input=f(2, 2), multiples=[2]),
    "broadcast": lambda: R.BroadcastTo(input=f(3), shape=[2]),
    "select_shapes": lambda: R.SelectV2(condition=[True, False], t=f(3), e=f(3)),
    "xent_labels": lambda: R.SparseSoftmaxCrossEntropyWithLogits(features=f(2, 3), labels=[0]),
    "xent_no_class": lambda: R.SparseSoftmaxCrossEntropyWithLogits(features=f(2, 0), labels=[0, 0]),
    "where_scalar": lambda: R.Where(condition=tf.constant(True)),
    "conv_channels": lambda: R.Conv2D(
        input=f(1, 5, 5, 4), filter=f(3, 3, 3, 2), strides=[1] * 4, padding="SAME"
    ),
    "conv_groups": lambda: R.Conv2D(
        input=f(1, 5, 5, 4), filter=f(3, 3, 2, 3), strides=[1] * 4, padding="SAME"
    ),
    "conv_window": lambda: R.Conv2D(
        input=f(1, 1, 5, 4), filter=f(3, 3, 4, 3), strides=[1] * 4, padding="VALID"
    ),
    "conv_no_filter": lambda: R.Conv2D(
        input=f(1, 5, 5, 4), filter=f(0, 3, 4, 3), strides=[1] * 4, padding="SAME"
    ),
    "conv_batch_stride": lambda: R.Conv2D(
        input=f(2, 5, 5, 4), filter=f(3, 3, 4, 3), strides=[2, 1, 1, 1], padding="SAME"
    ),
    "conv_input_depth": lambda: R.Conv2DBackpropInput(
        input_sizes=[1, 5, 5, 3],
        filter=f(3, 3, 4, 2),
        out_backprop=f(1, 5, 5, 2),
        strides=[1] * 4,
        padding="SAME",
    ),
    "depthwise_channels": lambda: R.DepthwiseConv2dNative(
        input=f(1, 5, 5, 4), filter=f(3, 3, 3, 2), strides=[1] * 4, padding="SAME"
    ),
    "pad_negative": lambda: R.Pad(input=f(2), paddings=[[-1, 0]]),
    "pad_length": lambda: R.Pad(input=f(2, 3), paddings=[[1, 0]]),
    "mirror_too_far": lambda: R.MirrorPad(input=f(2), paddings=[[2, 0]], mode="REFLECT"),
    "mirror_grad_too_far": lambda: R.MirrorPadGrad(input=f(5), paddings=[[3, 0]], mode="REFLECT"),
    "reverse_axis": lambda: R.ReverseV2(tensor=f(2, 3), axis=[2]),
    "reverse_twice": lambda: R.ReverseV2(tensor=f(2, 3), axis=[0, -2]),
    "roll_axis": lambda: R.Roll(input=f(2, 3), shift=[1], axis=[2]),
    "roll_lengths": lambda: R.Roll(input=f(2, 3), shift=[1, 2], axis=[1]),
    "roll_scalar": lambda: R.Roll(input=f(), shift=[1], axis=[0]),
    "slice_grad_shape": lambda: R.StridedSliceGrad(
        shape=[4], begin=[0], end=[2], strides=[1], dy=f(3)
    ),
    "space_to_batch_uneven": lambda: R.SpaceToBatchND(
        input=f(1, 3), block_shape=[2], paddings=[[0, 0]]
    ),
    "space_to_batch_negative": lambda: R.SpaceToBatchND(
        input=f(1, 4), block_shape=[2], paddings=[[-1, 1]]
    ),
    "space_to_batch_block": lambda: R.SpaceToBatchND(
        input=f(1, 4), block_shape=[0], paddings=[[0, 0]]
    ),
    "batch_to_space_uneven": lambda: R.BatchToSpaceND(
        input=f(3, 3), block_shape=[2], crops=[[0, 0]]
    ),
    "batch_to_space_crop": lambda: R.BatchToSpaceND(input=f(2, 3), block_shape=[2], crops=[[4, 4]]),
    "space_to_depth_uneven": lambda: R.SpaceToDepth(input=f(1, 3, 4, 1), block_size=2),
    "depth_to_space_uneven": lambda: R.DepthToSpace(input=f(1, 2, 2, 3), block_size=2),
    "patches_rank": lambda: R.ExtractImagePatches(
        images=f(3, 3), ksizes=[1, 2, 2, 1], strides=[1] * 4, rates=[1] * 4, padding="SAME"
    ),
    "clip_shape": lambda: R.ClipByValue(t=f(2, 3), clip_value_min=f(3), clip_value_max=f()),
    "reverse_sequence_axis": lambda: R.ReverseSequence(
        input=f(2, 3), seq_lengths=[1, 1], seq_dim=2
    ),
    "reverse_sequence_same": lambda: R.ReverseSequence(
        input=f(2, 3), seq_lengths=[1, 1], seq_dim=0, batch_dim=0
    ),
    "reverse_sequence_count": lambda: R.ReverseSequence(input=f(2, 3), seq_lengths=[1], seq_dim=1),
    "scan_axis": lambda: R.Cumsum(x=f(2), axis=2),
    "scan_scalar": lambda: R.Cumprod(x=f(), axis=0),
    "search_rows": lambda: R.LowerBound(sorted_inputs=f(1, 1), values=f(2, 1)),
    "search_rank": lambda: R.UpperBound(sorted_inputs=f(1), values=f(1)),
    "bucket_order": lambda: R.Bucketize(input=f(1), boundaries=[2.0, 1.0]),
    "in_top_k_rows": lambda: R.InTopKV2(predictions=f(1, 2), targets=[1, 1], k=1),
    "bincount_size": lambda: R.Bincount(arr=[1], size=-3, weights=f(1)),
    "bincount_weights": lambda: R.Bincount(arr=[1, 1], size=3, weights=f(3)),
    "bincount_rank": lambda: R.DenseBincount(input=[[[1]]], size=3, weights=f(1)),
    "bincount_dense_weights": lambda: R.DenseBincount(input=[[1, 1]], size=3, weights=f(2)),
    "histogram_range": lambda: R.HistogramFixedWidth(values=f(1), value_range=[1.0, 1.0], nbins=3),
    "histogram_range_length": lambda: R.HistogramFixedWidth(
        values=f(1), value_range=[1.0], nbins=3
    ),
    "histogram_bins": lambda: R.HistogramFixedWidth(values=f(1), value_range=[1.0, 2.0], nbins=0),
    "top_k_negative": lambda: R.TopKV2(input=f(2), k=-1),
    "top_k_many": lambda: R.TopKV2(input=f(2), k=3),
    "top_k_scalar": lambda: R.TopKV2(input=f(), k=0),
    "top_k_vector": lambda: R.TopKV2(input=f(2), k=[1]),
    "random_shape": lambda: R.RandomUniform(shape=[2, -1], dtype=tf.float32),
    "random_shape_rank": lambda: R.RandomUniform(shape=3, dtype=tf.float32),
    "random_limits": lambda: R.RandomUniformInt(shape=[2], minval=3, maxval=3),
    "random_limits_rank": lambda: R.RandomUniformInt(shape=[2], minval=[3], maxval=5),
    "random_seed": lambda: R.StatelessRandomUniform(shape=[2], seed=[1, 2, 3]),
    "random_key_seed": lambda: R.StatelessRandomGetKeyCounter(seed=[1]),
    "random_key": lambda: R.StatelessRandomUniformV2(shape=[2], key=[1, 2], counter=[1, 2], alg=1),
    "random_three_fry": lambda: R.StatelessRandomUniformV2(
        shape=[2], key=[1], counter=[1, 2], alg=2
    ),
    "random_keyed_limits": lambda: R.StatelessRandomUniformIntV2(
        shape=[2], key=[1], counter=[1, 2], alg=1, minval=4, maxval=3
    ),
    "pool_batch": lambda: R.MaxPool(
        input=f(2, 4, 4, 2), ksize=[2, 1, 1, 1], strides=[1] * 4, padding="SAME"
    ),
    "pool_channels": lambda: R.AvgPool(
        value=f(2, 4, 4, 2), ksize=[1, 2, 1, 2], strides=[1, 1, 1, 2], padding="SAME"
    ),
    "pool_window": lambda: R.MaxPool(
        input=f(2, 4, 4, 2), ksize=[1, 7, 1, 1], strides=[1] * 4, padding="VALID"
    ),
    "pool_zero": lambda: R.MaxPool(
        input=f(2, 4, 4, 2), ksize=[1, 0, 1, 1], strides=[1] * 4, padding="VALID"
    ),
    "pool_padding": lambda: R.MaxPool(
        input=f(2, 4, 4, 2),
        ksize=[1, 2, 2, 1],
        strides=[1] * 4,
        padding="EXPLICIT",
        explicit_paddings=[0, 0, 3, 0, 0, 0, 0, 0],
    ),
    "pool_gradient": lambda: R.MaxPoolGrad(
        orig_input=f(2, 4, 4, 2),
        orig_output=f(2, 2, 2, 2),
        grad=f(2, 2, 1, 2),
        ksize=[1, 2, 2, 1],
        strides=[1, 2, 2, 1],
        padding="SAME",
    ),
    "batch_norm_scale": lambda: R.FusedBatchNormV3(
        x=f(2, 3, 3, 4), scale=f(3), offset=f(4), mean=f(0), variance=f(0)
    ),
    "batch_norm_mean": lambda: R.FusedBatchNormV3(
        x=f(2, 3, 3, 4), scale=f(4), offset=f(4), mean=f(0), variance=f(0), is_training=False
    ),
    "batch_norm_rank": lambda: R.FusedBatchNormV3(
        x=f(3, 4), scale=f(4), offset=f(4), mean=f(0), variance=f(0)
    ),
    "lrn_radius": lambda: R.LRN(input=f(1, 2, 2, 3), depth_radius=-1),
    "lrn_shapes": lambda: R.LRNGrad(
        input_grads=f(1, 2, 2, 3), input_image=f(1, 2, 1, 3), output_image=f(1, 2, 2, 3)
    ),
    "cholesky_shape": lambda: R.Cholesky(input=f(2, 3)),
    "inverse_singular": lambda: R.MatrixInverse(input=f(2, 2)),
    "lu_singular": lambda: R.Lu(input=f(2, 2)),
    "solve_singular": lambda: R.MatrixSolve(matrix=f(2, 2), rhs=f(2, 1)),
    "solve_shape": lambda: R.MatrixSolve(matrix=tf.eye(2), rhs=f(3, 1)),
    "inverse_not_a_number": lambda: R.MatrixInverse(input=f(2, 2) * np.nan),
    "eigenvalues_not_a_number": lambda: R.SelfAdjointEigV2(input=f(2, 2) * np.nan),
    "triangular_batch": lambda: R.MatrixTriangularSolve(matrix=f(2, 3, 3), rhs=f(4, 3, 1)),
    "eigenvalues_shape": lambda: R.SelfAdjointEigV2(input=f(2, 3)),
    "einsum_inner": lambda: R.Einsum(inputs=[f(2, 3), f(4, 5)], equation="ab,bc->ac"),
    "einsum_rank": lambda: R.Einsum(inputs=[f(2, 3)], equation="abc->a"),
    "resize_flags": lambda: R.ResizeBilinear(
        images=f(1, 2, 2, 1), size=[2, 2], align_corners=True, half_pixel_centers=True
    ),
    "resize_zero": lambda: R.ResizeNearestNeighbor(images=f(1, 2, 2, 1), size=[0, 2]),
    "resize_empty": lambda: R.ResizeBilinear(images=f(1, 0, 2, 1), size=[2, 2]),
    "resize_gradient": lambda: R.ResizeNearestNeighborGrad(grads=f(1, 2, 2, 1), size=[0, 2]),
    "crop_owner": lambda: R.CropAndResize(
        image=f(1, 4, 4, 1), boxes=f(1, 4), box_ind=[1], crop_size=[2, 2]
    ),
    "crop_boxes": lambda: R.CropAndResize(
        image=f(1, 4, 4, 1), boxes=f(1, 3), box_ind=[0], crop_size=[2, 2]
    ),
    "suppression_threshold": lambda: R.NonMaxSuppressionV3(
        boxes=f(2, 4), scores=f(2), max_output_size=2, iou_threshold=1.5, score_threshold=0.0
    ),
    "suppression_scores": lambda: R.NonMaxSuppressionV3(
        boxes=f(2, 4), scores=f(3), max_output_size=2, iou_threshold=0.5, score_threshold=0.0
    ),
    "combined_boxes": lambda: R.CombinedNonMaxSuppression(
        boxes=f(1, 2, 3, 4),
        scores=f(1, 2, 2),
        max_output_size_per_class=2,
        max_total_size=2,
        iou_threshold=0.5,
        score_threshold=0.0,
    ),
    "transform_count": lambda: R.ImageProjectiveTransformV3(
        images=f(3, 2, 2, 1),
        transforms=f(2, 8),
        output_shape=[2, 2],
        fill_value=0.0,
        interpolation="BILINEAR",
    ),
    "rfft_short": lambda: R.RFFT(input=f(2, 4), fft_length=[8]),
    "rfft_scalar": lambda: R.RFFT(input=f(), fft_length=[8]),
    "irfft2d_length": lambda: R.IRFFT2D(input=tf.complex(f(4, 4), f(4, 4)), fft_length=[4]),
    "fft2d_rank": lambda: R.FFT2D(input=tf.complex(f(4), f(4))),
    "batch_matmul": lambda: R.BatchMatMulV2(x=f(2, 3, 4), y=f(3, 4, 5)),
    "gather_axis": lambda: R.GatherV2(params=f(2, 3), indices=[0], axis=2),
    "gather_scalar": lambda: R.GatherV2(params=f(), indices=[0], axis=0),
    "gather_batch": lambda: R.GatherV2(params=f(2, 3), indices=[[0]], axis=1, batch_dims=1),
    "gather_nd_depth": lambda: R.GatherNd(params=f(2, 3), indices=[[0, 0, 0]]),
    "gather_nd_empty": lambda: R.GatherNd(params=f(0, 3), indices=[[0]]),
    "scatter_nd_updates": lambda: R.ScatterNd(indices=[[0]], updates=f(2, 3), shape=[4, 3]),
    "scatter_nd_nothing": lambda: R.ScatterNd(
        indices=tf.zeros([2, 0], tf.int32), updates=f(2, 4), shape=[4]
    ),
    "tensor_scatter_depth": lambda: R.TensorScatterAdd(tensor=f(2), indices=[[0, 0]], updates=f(1)),
    "segment_unsorted": lambda: R.SegmentSum(data=f(3), segment_ids=[1, 0, 2]),
    "segment_negative": lambda: R.SegmentMax(data=f(2), segment_ids=[-1, 0]),
    "segment_length": lambda: R.SegmentSum(data=f(3), segment_ids=[0, 1]),
    "sparse_segment_length": lambda: R.SparseSegmentSum(data=f(3), indices=[0, 1], segment_ids=[0]),
    "unsorted_segment_prefix": lambda: R.UnsortedSegmentSum(
        data=f(3), segment_ids=[0, 1], num_segments=2
    ),
    "unsorted_segment_count": lambda: R.UnsortedSegmentSum(
        data=f(2), segment_ids=[0, 1], num_segments=-1
    ),
    "list_diff_rank": lambda: R.ListDiff(x=f(2, 2), y=f(2)),
    "list_diff_other_rank": lambda: R.ListDiff(x=f(2), y=tf.constant(1.0)),
    "hue_channels": lambda: R.AdjustHue(images=f(2, 2, 4), delta=0.5),
    "hue_rank": lambda: R.AdjustHue(images=f(2, 3), delta=0.5),
    "hue_delta": lambda: R.AdjustHue(images=f(2, 2, 3), delta=[0.5]),
    "saturation_channels": lambda: R.AdjustSaturation(images=f(2, 2, 4), scale=0.5),
    "contrast_rank": lambda: R.AdjustContrastv2(images=f(2, 3), contrast_factor=0.5),
    "contrast_factor": lambda: R.AdjustContrastv2(images=f(2, 2, 3), contrast_factor=[0.5]),
    "hsv_channels": lambda: R.RGBToHSV(images=f(2, 4)),
    "hsv_rank": lambda: R.RGBToHSV(images=tf.constant(1.0)),
    "rgb_channels": lambda: R.HSVToRGB(images=f(2, 0)),
    "tridiagonal_rows": lambda: R.TridiagonalSolve(diagonals=f(2, 5), rhs=f(5, 2)),
    "tridiagonal_sizes": lambda: R.TridiagonalSolve(diagonals=f(3, 5), rhs=f(4, 2)),
    "tridiagonal_batch": lambda: R.TridiagonalSolve(diagonals=f(1, 3, 5), rhs=f(2, 5, 2)),
    "tridiagonal_rank": lambda: R.TridiagonalSolve(diagonals=f(3), rhs=f(5, 2)),
    "tridiagonal_perturb": lambda: R.TridiagonalSolve(
        diagonals=f(3, 5), rhs=f(5, 2), partial_pivoting=False, perturb_singular=True
    ),
    "tridiagonal_product": lambda: R.TridiagonalMatMul(
        superdiag=f(1, 4), maindiag=f(1, 5), subdiag=f(1, 5), rhs=f(5, 2)
    ),
    "cholesky_grad_shape": lambda: R.CholeskyGrad(l=f(3, 3), grad=f(2, 2)),
    "cholesky_grad_square": lambda: R.CholeskyGrad(l=f(3, 2), grad=f(3, 2)),
    "cholesky_grad_rank": lambda: R.CholeskyGrad(l=f(3), grad=f(3)),
    "stitch_negative": lambda: R.DynamicStitch(indices=[[-1, 0]], data=[f(2)]),
    "stitch_shape": lambda: R.DynamicStitch(indices=[[0, 1]], data=[f(3)]),
    "partition_range": lambda: R.DynamicPartition(data=f(2), partitions=[0, 2], num_partitions=2),
    "partition_shape": lambda: R.DynamicPartition(data=f(3), partitions=[0, 1], num_partitions=2),
    "one_hot_depth": lambda: R.OneHot(indices=[0], depth=-1, on_value=1.0, off_value=0.0),
    "matrix_diag_part_k": lambda: R.MatrixDiagPartV3(input=f(2, 2), k=[3], padding_value=0.0),
    "set_diag_shape": lambda: R.MatrixSetDiag(input=f(2, 2), diagonal=f(3)),
    "diag_part_shape": lambda: R.DiagPart(input=f(2, 3)),
    "range_delta": lambda: R.Range(start=0.0, limit=3.0, delta=0.0),
    "lstm_cell_rank": lambda: lstm(R.LSTMBlockCell, (2, 4, 1)),
    "lstm_cell_batch": lambda: lstm(R.LSTMBlockCell, (2, 4), h_prev=f(3, 5)),
    "lstm_cell_weights": lambda: lstm(R.LSTMBlockCell, (2, 4), w=f(8, 20)),
    "lstm_cell_bias": lambda: lstm(R.LSTMBlockCell, (2, 4), b=f(5)),
    "lstm_cell_peephole": lambda: lstm(R.LSTMBlockCell, (2, 4), wci=f(1, 5)),
    "lstm_cell_empty": lambda: lstm(R.LSTMBlockCell, (0, 4), cs_prev=f(0, 5), h_prev=f(0, 5)),
    "lstm_cell_grad_weights": lambda: lstm(R.LSTMBlockCellGrad, (2, 4), w=f(9, 16)),
    "lstm_cell_grad_gate": lambda: lstm(R.LSTMBlockCellGrad, (2, 4), ci=f(2, 4)),
    "gru_rank": lambda: gru(R.GRUBlockCell, x=f(2, 4, 1)),
    "gru_weights": lambda: gru(R.GRUBlockCell, w_c=f(9, 10)),
    "gru_bias": lambda: gru(R.GRUBlockCell, b_ru=f(5)),
    "gru_grad_gate": lambda: gru(R.GRUBlockCellGrad, u=f(5, 2)),
    "block_lstm_length": lambda: lstm(R.BlockLSTM, (3, 2, 4), seq_len_max=tf.ones([1], "int64")),
    "block_lstm_rank": lambda: lstm(R.BlockLSTM, (3, 2, 4), cs_prev=f(10)),
    "block_lstm_batch": lambda: lstm(R.BlockLSTMV2, (3, 1, 4)),
    "block_lstm_peephole": lambda: lstm(R.BlockLSTM, (3, 2, 4), wci=f(3)),
    "block_lstm_bias": lambda: lstm(R.BlockLSTMV2, (3, 2, 4), b=f(21)),
    "block_lstm_grad_rows": lambda: lstm(R.BlockLSTMGrad, (3, 2, 4), w=f(8, 20)),
    "bitwise_shapes": lambda: R.BitwiseAnd(x=tf.zeros([2], tf.int8), y=tf.zeros([3], tf.int8)),
}
_VERSION = tuple(map(int, tf.__version__.split(".")[:2]))
# The CPU kernels of older versions end the process.
if _VERSION >= (2, 21):
    _BAD["block_lstm_grad_gate"] = lambda: lstm(R.BlockLSTMGradV2, (3, 2, 4), ci=f(6, 5))
# Newer versions take more rows than there are.
if _VERSION < (2, 23):
    _BAD["band_part_lower"] = lambda: R.MatrixBandPart(input=f(2, 2), num_lower=3, num_upper=0)


def _error(device: str, run) -> type:
    with tf.device(device):
        try:
            run()
        except Exception as e:
            return type(e)
    return type(None)


@pytest.mark.parametrize("name", _BAD)
def test_same_class_as_cpu(name):
    tf.config.set_soft_device_placement(False)
    try:
        expected = _error("/CPU:0", _BAD[name])
        assert expected is not type(None), "the CPU accepts this: not a case of bad input"
        assert _error(f"/{spine.device_type()}:0", _BAD[name]) is expected
    finally:
        tf.config.set_soft_device_placement(True)


def test_message_names_op_and_shapes():
    expected = pytest.raises(tf.errors.InvalidArgumentError, match=r"MatMul.*\[2,3\].*\[4,5\]")
    with tf.device(f"/{spine.device_type()}:0"), expected:
        R.MatMul(a=f(2, 3), b=f(4, 5))


@pytest.mark.parametrize("labels", [np.int32([0, 2, -1]), np.int64([0, 2**32, -(2**32)])])
def test_sparse_labels_out_of_range_are_nan_as_on_gpus(labels):
    with tf.device(f"/{spine.device_type()}:0"):
        loss, grad = R.SparseSoftmaxCrossEntropyWithLogits(features=f(3, 2), labels=labels)
    assert np.isnan(loss.numpy()).tolist() == [False, True, True]
    assert np.isnan(grad.numpy()).all(axis=1).tolist() == [False, True, True]


@pytest.mark.parametrize("layout", ["NCHW", "NCHW_VECT_C"])
def test_depth_and_space_of_other_layouts(layout):
    """The CPU kernels know NHWC only."""
    x = np.random.default_rng(0).standard_normal((2, 6, 4, 8)).astype(np.float32)
    wide = tf.nn.space_to_depth(x, 2).numpy()

    def to_layout(a):
        a = a.transpose(0, 3, 1, 2)
        if layout == "NCHW":
            return a
        n, c, h, w = a.shape
        return a.reshape(n, c // 4, 4, h, w).transpose(0, 1, 3, 4, 2)

    with tf.device(f"/{spine.device_type()}:0"):
        deep = tf.nn.space_to_depth(to_layout(x), 2, data_format=layout)
        np.testing.assert_array_equal(deep, to_layout(wide))
        np.testing.assert_array_equal(
            tf.nn.depth_to_space(deep, 2, data_format=layout), to_layout(x)
        )


def test_indices_out_of_range_are_as_on_gpus():
    """Gathers give zeros, scatters skip."""
    bad = [[1], [7], [-1]]
    with tf.device(f"/{spine.device_type()}:0"):
        assert R.GatherV2(params=f(3), indices=[1, 7, -1], axis=0).numpy().tolist() == [1, 0, 0]
        assert R.GatherNd(params=f(3), indices=bad).numpy().tolist() == [1, 0, 0]
        assert R.ScatterNd(indices=bad, updates=f(3), shape=[2]).numpy().tolist() == [0, 1]
        added = R.TensorScatterAdd(tensor=f(3), indices=bad, updates=f(3))
        assert added.numpy().tolist() == [1, 2, 1]


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint16", "uint64"])
def test_integer_division_by_zero_is_zero(dtype):
    """A GPU cannot raise the CPU's error; TensorFlow's kernels for GPUs do not, either."""
    with tf.device(f"/{spine.device_type()}:0"):
        x = tf.constant([7, 9], dtype)
        y = tf.constant([0, 2], dtype)
        for op in (R.FloorDiv, R.TruncateDiv, R.Div):
            assert op(x=x, y=y).numpy().tolist() == [0, 4]
        assert R.FloorMod(x=x, y=y).numpy().tolist() == [0, 1]


@pytest.mark.parametrize("n", [65_535, 65_536, 65_537])
def test_dimensions_around_65536(n):
    x = np.arange(2 * n, dtype=np.float32).reshape(2, n) / n
    with tf.device(f"/{spine.device_type()}:0"):
        d = tf.constant(x)
        np.testing.assert_allclose(tf.reduce_sum(d, 1), x.sum(1, dtype=np.float64), rtol=1e-5)
        np.testing.assert_array_equal(tf.transpose(d), x.T)
        np.testing.assert_array_equal(tf.concat([d, d], 1), np.concatenate([x, x], 1))
        np.testing.assert_allclose(
            tf.matmul(d, d, transpose_b=True), x.astype("f8") @ x.T, rtol=1e-4
        )
        np.testing.assert_allclose(tf.nn.softmax(d), tf.nn.softmax(x.astype("f8")), rtol=1e-4)
        np.testing.assert_array_equal(tf.nn.bias_add(d, d[0]), x + x[0])
