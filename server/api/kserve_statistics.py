"""A model's counts and times as ModelStatistics has them."""

from tritonclient.grpc import service_pb2

from server.observability.model_statistics import ModelStatistics


def write_statistics(statistics: ModelStatistics, message: service_pb2.ModelStatistics) -> None:
    """Writes a model's counts and times into an empty message."""
    message.name = statistics.name
    message.version = str(statistics.version)
    message.last_inference = statistics.last_inference_ms
    message.inference_count = statistics.inference_count
    message.execution_count = statistics.execution_count
    total, requests = message.inference_stats, statistics.success_count - statistics.cache_hits
    _set(total.fail, sum(statistics.failures.values()), statistics.fail_s)
    _set(total.success, statistics.success_count, statistics.success_s)
    _set(total.queue, statistics.success_count, statistics.queue_s)
    _set(total.compute_input, requests, statistics.input_s)
    _set(total.compute_infer, requests, statistics.infer_s)
    _set(total.compute_output, requests, statistics.output_s)
    _set(total.cache_hit, statistics.cache_hits, statistics.cache_hit_s)
    _set(total.cache_miss, statistics.cache_misses, statistics.cache_miss_s)
    for batch_size, times in sorted(statistics.batches.items()):
        batch = message.batch_stats.add(batch_size=batch_size)
        _set(batch.compute_input, times.executions, times.input_s)
        _set(batch.compute_infer, times.executions, times.infer_s)
        _set(batch.compute_output, times.executions, times.output_s)


def _set(duration: service_pb2.StatisticDuration, count: int, seconds: float) -> None:
    duration.count = count
    duration.ns = int(seconds * 1e9)
