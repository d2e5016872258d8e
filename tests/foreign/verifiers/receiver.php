<?php
// A receiver as somebody writes it in PHP: it verifies, and answers 204 or 400.
$key = base64_decode(substr(getenv('SECRET'), strlen('whsec_')));
$signed = $_SERVER['HTTP_WEBHOOK_ID'] . '.' . $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] . '.'
    . file_get_contents('php://input');
$wanted = 'v1,' . base64_encode(hash_hmac('sha256', $signed, $key, true));
$isOurs = false;
foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $given) {
    $isOurs = $isOurs || hash_equals($wanted, $given);
}
http_response_code($isOurs ? 204 : 400);
