"""The unmodified tritonclient[grpc]: python triton_grpc_client.py HOST:PORT HTTP_HOST:PORT IMAGE"""

import sys
import threading
import unittest

import numpy as np
import tritonclient.grpc as triton
from triton_case import SECOND, TritonCase
from tritonclient.utils import InferenceServerException


class TritonGrpc(TritonCase):
    triton = triton
    address, http_address, photo_file = sys.argv[1:4]

    def accuracy(self, result: triton.InferResult) -> float:
        parameters = result.get_response().parameters
        return parameters["expected_accuracy"].double_param

    def test_health(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready(self.model))
        with self.assertRaisesRegex(InferenceServerException, "no-such-model"):
            self.client.is_model_ready("other")

    def test_metadata(self):
        server = self.client.get_server_metadata()
        self.assertEqual(server.name, "depthserve")
        self.assertIn("classification", server.extensions)
        model = self.client.get_model_metadata(self.model)
        self.assertEqual(list(model.inputs[0].shape), [-1, *self.shape])
        self.assertEqual(
            [output.name for output in model.outputs], ["logits", "probabilities"]
        )
        version = model.versions[0]
        self.assertEqual(self.client.get_model_metadata(self.model, version), model)

    def test_config(self):
        config = self.client.get_model_config(self.model).config
        self.assertGreater(config.max_batch_size, 0)
        self.assertEqual(list(config.input[0].dims), list(self.shape))
        taken = config.parameters["image.datatypes"].string_value
        self.assertEqual(taken, "UINT8,BYTES")

    def test_tensors(self):
        result = self.infer(self.pixels(3), request_id="r1")
        self.assertEqual(result.get_response().id, "r1")
        logits = result.as_numpy("logits")
        self.assertEqual(logits.shape, (3, len(self.labels)))
        skip = result.get_response().parameters["sub_network"].string_param
        expected = self.calibrated(logits, skip)
        np.testing.assert_allclose(
            result.as_numpy("probabilities"), expected, rtol=1e-5
        )

    def test_encoded_image_and_classification(self):
        wanted = [triton.InferRequestedOutput("probabilities", class_count=3)]
        result = self.infer(self.photo(), outputs=wanted).as_numpy("probabilities")
        self.assertEqual(result.shape, (1, 3))
        value, index, label = result[0][0].decode().split(":")
        self.assertEqual((self.labels[int(index)], label), ("cat", "cat"))
        self.assertGreater(float(value), 1 / len(self.labels))

    def test_compressed_request(self):
        result = self.infer(self.pixels(1), compression_algorithm="gzip")
        self.assertEqual(result.as_numpy("logits").shape, (1, len(self.labels)))

    def test_timeout_and_client_timeout_drive_the_depth(self):
        tensor = self.pixels(1)
        enough = self.info["tiers"][-2]["accuracy"]
        # `timeout` is in microseconds, `client_timeout` in seconds.
        ways = {
            "timeout": lambda seconds: {"timeout": int(seconds * SECOND)},
            "client_timeout": lambda seconds: {
                "timeout": None,
                "client_timeout": seconds,
            },
        }
        for name, way in ways.items():
            # Which times a busy machine meets with which tier is its own affair: they are swept.
            shallowest = 1.0
            for seconds in np.tile(np.geomspace(0.001, 1, 40), 20):
                try:
                    shallowest = min(
                        shallowest, self.accuracy(self.infer(tensor, **way(seconds)))
                    )
                except InferenceServerException as error:
                    self.assertIn(
                        error.status(),
                        ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"),
                    )
                if shallowest < enough:
                    break
            self.assertLess(shallowest, enough, f"{name}: less time, less depth")

    def test_hopeless_timeout_is_refused_with_what_would_work(self):
        error = self.refusal(self.pixels(1), timeout=1)
        self.assertEqual(error.status(), "StatusCode.DEADLINE_EXCEEDED")
        self.assertIn("smallestBudgetMs", error.message())

    def test_skip_pins_the_sub_network(self):
        for tier in self.info["tiers"]:
            answer = self.infer(self.pixels(2), parameters={"skip": tier["skip"]})
            served = answer.get_response().parameters["sub_network"].string_param
            self.assertEqual(served, tier["skip"])

    def test_errors(self):
        wrong_size = np.zeros((1, 5, 5, 3), dtype=np.uint8)
        error = self.refusal(self.tensor(wrong_size))
        self.assertEqual(error.status(), "StatusCode.INVALID_ARGUMENT")
        self.assertIn("shape", error.message())
        with self.assertRaises(InferenceServerException) as caught:
            self.client.infer("no-such-model", [self.pixels(1)])
        self.assertEqual(caught.exception.status(), "StatusCode.NOT_FOUND")

    def test_what_is_not_offered_is_refused_by_name(self):
        error = self.refusal(self.pixels(1), sequence_id=3)
        self.assertEqual(error.status(), "StatusCode.UNIMPLEMENTED")
        self.assertIn("sequence_id", error.message())
        shared = triton.InferInput("image", (1, *self.shape), "UINT8")
        shared.set_shared_memory("region", 3072)
        self.assertIn("shared_memory_region", self.refusal(shared).message())
        with self.assertRaisesRegex(InferenceServerException, "RepositoryIndex"):
            self.client.get_model_repository_index()

    def test_async_and_cancel(self):
        done = threading.Event()
        outcome = {}

        def callback(result, error):
            outcome["error"] = error
            done.set()

        call = self.client.async_infer(
            self.model,
            [self.pixels(64)],
            callback,
            timeout=60 * SECOND,
            parameters={"skip": "F" * len(self.info["manifest"]["flags"])},
        )
        call.cancel()
        self.assertTrue(done.wait(30))
        self.assertIn("cancel", str(outcome["error"]).lower())

    def test_statistics_count_images_and_batches(self):
        def stats():
            return self.client.get_inference_statistics(self.model).model_stats[0]

        before = stats()
        self.infer(self.pixels(9))
        after = stats()
        self.assertEqual(after.inference_count - before.inference_count, 9)
        self.assertGreaterEqual(after.execution_count - before.execution_count, 3)
        every = self.client.get_inference_statistics().model_stats
        self.assertEqual([model.name for model in every], [self.model])


unittest.main(argv=sys.argv[:1], verbosity=2)
